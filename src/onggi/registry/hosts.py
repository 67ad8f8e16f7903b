"""Where a repository is to be found: our `registries.toml`, else containerd's `hosts.toml`, else its own registry.

Certificates in `certs.d/HOST[:PORT]/` of containerd, Docker and containers go to every endpoint at that host for
which configuration names none. All is read when it is needed, so a change counts from the next command on.
"""

from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.host.config_files import ConfigFiles
from onggi.spec.reference import Reference, parse_reference
from onggi.spec.registry import ClientCertificate, Endpoint

from . import hosts_file, registries_file
from .registries_file import RegistriesFile
from .server_tables import MAX_BYTES
from .servers import Registry, is_host, plan_endpoints, split_port

MAX_FILES: Final = 1000
_SYSTEM: Final = "/etc"
_DEFAULT: Final = "_default"


class RegistryPaths(msgspec.Struct, frozen=True, kw_only=True):
    """Where configuration is looked for. A later one of `files` goes over an earlier; in directories the first wins."""

    files: tuple[str, ...] = ()
    containerd: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory has for one host."""

    ca_files: tuple[str, ...] = ()
    client_certificates: tuple[ClientCertificate, ...] = ()


class RegistriesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What `registries.toml` says, and where the rest is read from."""

    file: RegistriesFile = RegistriesFile()
    paths: RegistryPaths = RegistryPaths()
    files: ConfigFiles = ConfigFiles()

    def parse_reference(self, text: str) -> Reference:
        """Read a name; without a registry it is in the one that is the default here."""
        return parse_reference(text, self.file.default_registry)


class _Directory(msgspec.Struct, frozen=True, kw_only=True):
    path: str = ""
    names: tuple[str, ...] = ()
    hosts: bytes = b""


def usual_paths(config_home: str = "") -> RegistryPaths:
    """Give the usual places; `config_home` is the user's `$XDG_CONFIG_HOME`, or empty for none."""
    homes = (config_home, _SYSTEM) if config_home else (_SYSTEM,)
    return RegistryPaths(
        files=tuple(f"{home}/onggi/{registries_file.NAME}" for home in reversed(homes)),
        containerd=tuple(f"{home}/containerd/certs.d" for home in homes),
        certificates=tuple(f"{home}/{owner}/certs.d" for home in homes for owner in ("docker", "containers")),
    )


def read_config(paths: RegistryPaths, files: ConfigFiles) -> RegistriesConfig:
    """Read `registries.toml` at its places. Raises InvalidArgument with file, place and what is allowed there."""
    found = RegistriesFile()
    for path in paths.files:
        data = files.read(path, MAX_BYTES)
        if data is not None:
            found = registries_file.parse_registries(data, path, found)
    return RegistriesConfig(file=found, paths=paths, files=files)


def find_endpoints(config: RegistriesConfig, reference: Reference) -> tuple[Endpoint, ...]:
    """Give the servers at which a repository is tried, in order: mirrors first, then the registry itself.

    Raises PermissionDenied where configuration blocks it, InvalidArgument for configuration that is wrong.
    """
    domain = reference.domain.lower()
    if not is_host(domain):
        raise InvalidArgument(f"{reference.name}: {reference.domain} is not a host")
    registry = config.file.find(reference) or _hosts_file(config, domain) or Registry()
    return tuple(_with_certificates(config, endpoint) for endpoint in plan_endpoints(registry, reference))


def certificates_among(directory: str, names: tuple[str, ...], *, keys_apart: bool) -> Certificates:
    """Sort out the files of a directory: `*.crt` are authorities, `*.cert` with `*.key` are who we are.

    `keys_apart`: as in Docker every certificate needs its key and every key its certificate; for containerd a
    certificate's file may have both.
    """
    pairs = []
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if not dot or suffix not in ("cert", "key"):
            continue
        has_key = f"{stem}.key" in names
        if keys_apart and suffix == "cert" and not has_key:
            raise InvalidArgument(
                f"{directory}: missing key {stem}.key for client certificate {name}. "
                "CA certificates must use the extension .crt"
            )
        if keys_apart and suffix == "key" and f"{stem}.cert" not in names:
            raise InvalidArgument(f"{directory}: missing client certificate {stem}.cert for key {name}")
        if suffix == "cert":
            key = f"{directory}/{stem}.key" if has_key else ""
            pairs.append(ClientCertificate(certificate=f"{directory}/{name}", key=key))
    return Certificates(
        ca_files=tuple(f"{directory}/{name}" for name in names if name.endswith(".crt")),
        client_certificates=tuple(pairs),
    )


def _hosts_file(config: RegistriesConfig, domain: str) -> Registry | None:
    found = _containerd_directory(config, (*_directory_names(domain), _DEFAULT))
    return hosts_file.parse_hosts(found.hosts, f"{found.path}/{hosts_file.NAME}") if found.hosts else None


def _with_certificates(config: RegistriesConfig, endpoint: Endpoint) -> Endpoint:
    if endpoint.ca_files or endpoint.client_certificates or not endpoint.url.startswith("https:"):
        return endpoint
    found = _certificates(config, endpoint.host, own=not endpoint.namespace)
    return msgspec.structs.replace(endpoint, ca_files=found.ca_files, client_certificates=found.client_certificates)


def _certificates(config: RegistriesConfig, host: str, *, own: bool) -> Certificates:
    """Look through the directories for a host; the first that has certificates counts."""
    there = _containerd_directory(config, _directory_names(host) + ((_DEFAULT,) if own else ()))
    # Beside a hosts.toml lie certificates that it names for one mirror, and nobody else is to be trusted for them.
    found = Certificates() if there.hosts else certificates_among(there.path, there.names, keys_apart=False)
    for root in config.paths.certificates:
        if found != Certificates():
            break
        directory = f"{root}/{host}"
        found = certificates_among(directory, config.files.names(directory, MAX_FILES) or (), keys_apart=True)
    return found


def _containerd_directory(config: RegistriesConfig, names: tuple[str, ...]) -> _Directory:
    """Give the first directory that is there; as in containerd an empty hosts.toml is none."""
    for path in (f"{root}/{name}" for name in names for root in config.paths.containerd):
        files = config.files.names(path, MAX_FILES)
        if files is not None:
            return _Directory(
                path=path, names=files, hosts=config.files.read(f"{path}/{hosts_file.NAME}", MAX_BYTES) or b""
            )
    return _Directory()


def _directory_names(host: str) -> tuple[str, ...]:
    name, port = split_port(host)
    return (f"{name}_{port}_", host) if port else (host,)
