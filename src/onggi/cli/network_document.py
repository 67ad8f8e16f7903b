"""What `inspect` says about a container's network, under Docker's names."""

from typing import Any

from onggi.engine.networks import NetworkSettings
from onggi.spec.container import ContainerRequest
from onggi.spec.ports import PortRequest

_NOWHERE: dict[str, Any] = {
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}


def network_document(settings: NetworkSettings | None, network: str) -> dict[str, Any]:
    """Describe where a container is; `settings` is None for one that is on no bridge (now)."""
    if settings is None:
        return {"Bridge": "", "Ports": {}, **_NOWHERE, "Networks": {network: {**_NOWHERE}}}
    place = {
        "Gateway": settings.gateway4,
        "IPAddress": settings.address4,
        "IPPrefixLen": settings.prefix4,
        "IPv6Gateway": settings.gateway6,
        "GlobalIPv6Address": settings.address6,
        "GlobalIPv6PrefixLen": settings.prefix6,
        "MacAddress": settings.mac,
    }
    ports: dict[str, list[dict[str, str]]] = {}
    for port in settings.ports:
        where = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        ports.setdefault(f"{port.container_port}/{port.protocol}", []).append(where)
    return {"Bridge": settings.bridge, "Ports": ports, **place, "Networks": {settings.network: place}}


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
