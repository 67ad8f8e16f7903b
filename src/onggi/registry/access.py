"""All registries as one caller reaches them: its configuration, its connections, who it is."""

from typing import Self

from onggi.host.http_client import Client
from onggi.spec.reference import Reference

from .auth import Authentication
from .hosts import RegistriesConfig, find_endpoints
from .remote import Remote


class Registries:
    """What one command asks registries with; several threads share it. Leave it as a context manager."""

    def __init__(self, config: RegistriesConfig, client: Client, auth: Authentication) -> None:
        """Ask nothing yet."""
        self._config, self.client, self.auth = config, client, auth

    def __enter__(self) -> Self:
        """Give this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close connections."""
        self.client.close()

    def parse(self, text: str) -> Reference:
        """Read a name as this caller means it: without a registry it is in the default one."""
        return self._config.parse_reference(text)

    def remote(self, reference: Reference) -> Remote:
        """Give the repository of a reference at all its endpoints. Raises PermissionDenied where it is blocked."""
        return Remote.of(reference, find_endpoints(self._config, reference), self.client, self.auth)

    def stop(self) -> None:
        """End what other threads wait for at this moment; everything else is Cancelled from now on."""
        self.client.stop()
