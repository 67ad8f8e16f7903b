"""What `inspect` says about a container's network, under Docker's names."""

from collections.abc import Sequence
from typing import Any, Final

from onggi.engine.networks import NetworkSettings
from onggi.spec.container import ContainerRequest
from onggi.spec.ports import PortRequest

_NOWHERE: Final[dict[str, Any]] = {
    "EndpointID": "",
    "Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "MacAddress": "",
}
_NEVER: Final[dict[str, Any]] = {
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
}
"""What Docker still shows, and hardly anything ever sets."""
_MEMBER: Final = ("Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen")


def network_document(
    settings: NetworkSettings | None, network: str, *, pid: int = 0, exposed: Sequence[str] = ()
) -> dict[str, Any]:
    """Describe where a container is; `settings` is None for one that is on no bridge (now), `pid` 0 for none.

    `exposed` are the ports that it says it serves, published or not.
    """
    sandbox = {"SandboxID": "", "SandboxKey": f"/proc/{pid}/ns/net" if pid else ""}
    if settings is None:
        networks = {} if network.startswith("container:") else {network: _member(_NOWHERE)}
        return {"Bridge": "", **sandbox, "Ports": {}, **_NEVER, **_NOWHERE, "Networks": networks}
    place = {
        **_NOWHERE,
        "Gateway": settings.gateway4,
        "GlobalIPv6Address": settings.address6,
        "GlobalIPv6PrefixLen": settings.prefix6,
        "IPAddress": settings.address4,
        "IPPrefixLen": settings.prefix4,
        "IPv6Gateway": settings.gateway6,
        "MacAddress": settings.mac,
    }
    ports: dict[str, list[dict[str, str]] | None] = dict.fromkeys(exposed)
    for port in settings.ports:
        where = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        key = f"{port.container_port}/{port.protocol}"
        ports[key] = [*(ports.get(key) or ()), where]
    return {
        "Bridge": settings.bridge,
        **sandbox,
        "Ports": dict(sorted(ports.items())),
        **_NEVER,
        **place,
        "Networks": {settings.network: _member(place)},
    }


def _member(place: dict[str, Any]) -> dict[str, Any]:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": place["MacAddress"],
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        **{name: place[name] for name in _MEMBER},
        "DNSNames": None,
    }


def bindings_document(request: ContainerRequest) -> dict[str, list[dict[str, str]]]:
    """Describe what `-p` asked for."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in request.ports:
        where = {"HostIp": port.host_ip, "HostPort": _asked(port)}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(where)
    return bindings


def _asked(port: PortRequest) -> str:
    last = f"-{port.host_port_last}" if port.host_port_last else ""
    return f"{port.host_port}{last}" if port.host_port else ""
