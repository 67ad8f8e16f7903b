"""The files by which a container resolves names: hosts, hostname and resolv.conf, written anew at every start.

They lie in the container's directory and are shown in it by bind mounts. A container
that shares another one's network shares its files too.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from onggi.engine.context import Context
from onggi.host.hostfiles import read_host_file
from onggi.plan.network import Attachment
from onggi.plan.network.attachment import GATEWAY_NUMBER
from onggi.spec.container import ContainerRequest
from onggi.spec.resolv import (
    DEFAULT_SERVERS,
    LOCAL_HOSTS,
    Resolver,
    change_resolver,
    parse_resolv,
    print_hosts,
    print_resolv,
    reachable_servers,
)
from onggi.spec.runtime import Mount
from onggi.store.containers import Container

_FILES: Final = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}
_RESOLV: Final = "/etc/resolv.conf"
_UPSTREAMS: Final = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
_OWN_NAME: Final = ip_address("127.0.1.1")
_MODE: Final = 0o644

Address = IPv4Address | IPv6Address


def write_network_files(
    context: Context, container: Container, request: ContainerRequest, attachment: Attachment | None
) -> tuple[Mount, ...]:
    """Write a container's files and give the mounts that show them; `attachment` is its place in a bridge network."""
    if request.network.startswith("container:"):
        return _shared(context, request.network.removeprefix("container:"))
    name = request.hostname if request.hostname is not None else container.id[:12]
    place = context.containers.directory(container.id)
    texts = {
        "hosts": _hosts(request, name, attachment),
        "hostname": f"{name}\n",
        "resolv.conf": print_resolv(resolver_of(request, attachment)),
    }
    for file, text in texts.items():
        context.files.put(f"{place}/{file}", text.encode("utf-8", "surrogateescape"), mode=_MODE)
    return _mounts(place, tuple(texts))


def write_step_files(
    context: Context, place: str, request: ContainerRequest, hosts: Sequence[str], attachment: Attachment | None
) -> tuple[Mount, ...]:
    """Write the files of a build step into `place` and give read-only mounts: nothing of them lands in the layer."""
    request = msgspec.structs.replace(request, extra_hosts=tuple(hosts))
    texts = {
        "hosts": _hosts(request, request.hostname or "", attachment),
        "resolv.conf": print_resolv(resolver_of(request, attachment)),
    }
    for file, text in texts.items():
        context.files.put(f"{place}/{file}", text.encode("utf-8", "surrogateescape"), mode=_MODE)
    return tuple(
        Mount(destination=_FILES[file], type="bind", source=f"{place}/{file}", options=("rbind", "ro"))
        for file in texts
    )


def network_mounts(context: Context, id: str) -> tuple[Mount, ...]:
    """Give the mounts of these files, for explanations; nothing is written."""
    return _mounts(context.containers.directory(id), tuple(_FILES))


def _mounts(place: str, files: Sequence[str]) -> tuple[Mount, ...]:
    options = ("rbind", "rprivate")
    return tuple(
        Mount(destination=_FILES[file], type="bind", source=f"{place}/{file}", options=options) for file in files
    )


def _shared(context: Context, ref: str) -> tuple[Mount, ...]:
    place = context.containers.directory(context.containers.get(ref).id)
    return _mounts(place, [file for file in _FILES if context.files.look(f"{place}/{file}") is not None])


def _hosts(request: ContainerRequest, name: str, attachment: Attachment | None) -> str:
    names = f"{name}.{request.domainname} {name}" if request.domainname else name
    if request.network == "host":
        gateways: dict[int, Address] = {4: ip_address("127.0.0.1")}
        return print_hosts(names, (), request.extra_hosts, gateways, base=read_host_file("/etc/hosts") or LOCAL_HOSTS)
    if attachment is None:
        return print_hosts(names, (_OWN_NAME,), request.extra_hosts, {})
    addresses: list[Address] = [attachment.address4]
    gateways = {4: attachment.subnet4[GATEWAY_NUMBER]}
    if attachment.subnet6 is not None and attachment.address6 is not None:
        addresses.append(attachment.address6)
    return print_hosts(names, addresses, request.extra_hosts, gateways)


def resolver_of(request: ContainerRequest, attachment: Attachment | None) -> Resolver:
    """Take the host's resolver as far as the container can use it, and what the request says instead."""
    host = parse_resolv(read_host_file(_RESOLV))
    asked = Resolver(servers=request.dns, search=request.dns_search, options=request.dns_options)
    if request.network == "host" or request.dns:
        return change_resolver(host, asked)
    ipv6 = attachment is not None and attachment.subnet6 is not None
    servers = reachable_servers(host.servers, ipv6=ipv6)
    for path in _UPSTREAMS:
        servers = servers or reachable_servers(parse_resolv(read_host_file(path)).servers, ipv6=ipv6)
    reachable = Resolver(servers=servers or DEFAULT_SERVERS, search=host.search, options=host.options)
    return change_resolver(reachable, asked)
