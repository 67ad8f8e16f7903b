"""Registries as the user who called reaches them: proxies, configuration, credentials."""

from collections.abc import Mapping

from onggi.cli.caller import Caller
from onggi.host.config_files import ConfigFiles
from onggi.host.http import Proxies
from onggi.host.http_client import Client
from onggi.registry.access import Registries
from onggi.registry.auth import Authentication
from onggi.registry.hosts import read_config, usual_paths


def registries_of(caller: Caller) -> Registries:
    """Read the caller's configuration; nothing is asked yet. Raises InvalidArgument for configuration that is wrong."""
    home = caller.env.get("HOME", "")
    config_home = caller.env.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    client = Client(proxies_of(caller.env))
    return Registries(read_config(usual_paths(config_home), ConfigFiles()), client, Authentication(client))


def proxies_of(env: Mapping[str, str]) -> Proxies:
    """Read the usual variables, which have no standard but many readers: small letters count first."""

    def get(name: str) -> str:
        return env.get(name) or env.get(name.upper()) or ""

    return Proxies(
        http=get("http_proxy") or get("all_proxy"),
        https=get("https_proxy") or get("all_proxy"),
        none=tuple(entry for entry in get("no_proxy").replace(",", " ").split()),
        ca_bundle=env.get("SSL_CERT_FILE", ""),
    )
