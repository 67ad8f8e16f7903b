"""What registries know us by: found where Docker and Podman keep it, kept where Docker does.

Searched in this order, the first that knows the registry wins:

    $DOCKER_CONFIG/config.json, else ~/.docker/config.json
    $REGISTRY_AUTH_FILE, else $XDG_RUNTIME_DIR/containers/auth.json (/run/containers/UID/auth.json without one),
        then $XDG_CONFIG_HOME/containers/auth.json, else ~/.config/containers/auth.json

Where a file names a credential helper for a registry, the helper keeps what the file would.
"""

from collections.abc import Iterator, Mapping

import msgspec

from onggi.host.credential_helper import erase_credential, get_credential, store_credential
from onggi.host.private_files import changing, read_private, replace_private
from onggi.spec.registry import Credential

from .credential_file import MAX_BYTES, CredentialFile


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A credential, and the file that has it or names its helper."""

    credential: Credential
    path: str


class Credentials:
    """The credentials of one user. A `host` is as in `Endpoint.host`: `docker.io`, `registry.example.com:5000`."""

    def __init__(self, env: Mapping[str, str], *, home: str, uid: int) -> None:
        """Say who the user is; helpers run in this environment."""
        self._env, self._home, self._uid = env, home, uid

    def find(self, host: str, repository: str = "") -> Credential | None:
        """Find the credential for a repository (`library/ubuntu`), or for a registry; None: we are nobody there.

        Raises an error that names the file or the helper that fails; what needs no login goes well without.
        """
        found = self.locate(host, repository)
        return found.credential if found else None

    def locate(self, host: str, repository: str = "") -> Found | None:
        """Find a credential, and where it is kept."""
        for path in self._paths():
            data = read_private(path, MAX_BYTES)
            if data is None:
                continue
            file = CredentialFile(path, data)
            helper = file.helper_of(host)
            if helper is not None:
                found = get_credential(helper.name, helper.server, self._env)
            else:
                found = file.find(host, repository)
            if found is not None:
                return Found(credential=found, path=path)
        return None

    def save(self, host: str, credential: Credential) -> str:
        """Keep a credential in Docker's configuration, or in its helper; gives the file that has it now, or ""."""
        with changing(self._docker) as path:
            file = CredentialFile(self._docker, read_private(self._docker, MAX_BYTES) or b"")
            helper = file.helper_of(host)
            if helper is not None:
                store_credential(helper.name, helper.server, credential, self._env)
                credential = Credential()
            replace_private(path, file.with_credential(host, credential))
        return "" if helper else self._docker

    def erase(self, host: str) -> bool:
        """Forget what `save` keeps; False if that was nothing."""
        if read_private(self._docker, MAX_BYTES) is None:
            return False
        with changing(self._docker) as path:
            file = CredentialFile(self._docker, read_private(self._docker, MAX_BYTES) or b"")
            helper = file.helper_of(host)
            erased = helper is not None and erase_credential(helper.name, helper.server, self._env)
            if file.has(host):
                replace_private(path, file.without(host))
                erased = True
        return erased

    @property
    def _docker(self) -> str:
        return f"{self._env.get('DOCKER_CONFIG') or f'{self._home}/.docker'}/config.json"

    def _paths(self) -> Iterator[str]:
        yield self._docker
        if chosen := self._env.get("REGISTRY_AUTH_FILE"):
            yield chosen
            return
        runtime = self._env.get("XDG_RUNTIME_DIR")
        yield f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{self._uid}/auth.json"
        yield f"{self._env.get('XDG_CONFIG_HOME') or f'{self._home}/.config'}/containers/auth.json"
