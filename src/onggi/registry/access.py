"""All registries as one caller reaches them: its configuration, its connections, who it is."""

from collections.abc import Mapping
from typing import Self

from onggi.base.errors import FailedPrecondition
from onggi.host.config_files import ConfigFiles
from onggi.host.http import Proxies
from onggi.host.http_client import Client, NoTls, Unreachable
from onggi.spec.reference import Reference
from onggi.spec.registry import Credential, Endpoint

from .auth import Authentication, check
from .credentials import Credentials
from .hosts import RegistriesConfig, find_endpoints, read_config, usual_paths
from .remote import Remote
from .servers import without_trust


class Registries:
    """What one command asks registries with; several threads share it. Leave it as a context manager."""

    def __init__(self, config: RegistriesConfig, client: Client, auth: Authentication) -> None:
        """Ask nothing yet."""
        self._config, self.client, self.auth = config, client, auth

    @classmethod
    def of(cls, env: Mapping[str, str], *, home: str, uid: int) -> Self:
        """Read the configuration of a user with this environment. Raises InvalidArgument for what is wrong there."""
        client = Client(Proxies.of(env))
        config_home = env.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
        config = read_config(usual_paths(config_home), ConfigFiles())
        return cls(config, client, Authentication(client, Credentials(env, home=home, uid=uid).find))

    def __enter__(self) -> Self:
        """Give this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close connections."""
        self.client.close()

    def parse(self, text: str) -> Reference:
        """Read a name as this caller means it: without a registry it is in the default one."""
        return self._config.parse_reference(text)

    def remote(self, reference: Reference, *, insecure: bool = False) -> Remote:
        """Give the repository of a reference at all its endpoints. Raises PermissionDenied where it is blocked.

        `insecure`: certificates are not verified, and plain HTTP does where there is no TLS.
        """
        endpoints = find_endpoints(self._config, reference)
        return Remote.of(reference, without_trust(endpoints) if insecure else endpoints, self.client, self.auth)

    @property
    def default_domain(self) -> str:
        """The registry of names that say none."""
        return self._config.file.default_registry

    def itself(self, host: str) -> Remote:
        """Give a registry without its mirrors, to ask what is not about one repository."""
        every = find_endpoints(self._config, Reference(domain=host, path="search"))
        first = max(number for number, endpoint in enumerate(every) if not endpoint.fallback)
        return Remote(host, every[first:], self.client, self.auth)

    def check(self, host: str, credential: Credential) -> str:
        """Ask a registry itself, none of its mirrors, whether it knows us; gives its identity token or "".

        Raises Unauthorized, Unavailable, and FailedPrecondition where it is configured to be another host.
        """
        first, *others = self._own_endpoints(host)
        try:
            return check(self.client, first, credential)
        except (Unreachable, NoTls):
            if not others or not others[0].fallback:
                raise
        return check(self.client, others[0], credential)

    def _own_endpoints(self, host: str) -> tuple[Endpoint, ...]:
        every = find_endpoints(self._config, Reference(domain=host, path="login"))
        own = tuple(endpoint for endpoint in every if endpoint.host == host.lower() and not endpoint.namespace)
        if not own:
            raise FailedPrecondition(f"{host} is configured to be at {every[-1].host}; log in there")
        return own

    def stop(self) -> None:
        """End what other threads wait for at this moment; everything else is Cancelled from now on."""
        self.client.stop()
