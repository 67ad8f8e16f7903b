"""Ports as `ps` shows them: ranges together (docker/cli's DisplayablePorts)."""

from collections.abc import Collection, Iterable, Sequence

from onggi.spec.ports import PublishedPort


def ports_text(published: Sequence[PublishedPort], exposed: Collection[tuple[int, str]]) -> str:
    """`0.0.0.0:80-81->80-81/tcp, 0.0.0.0:8080->90/tcp, 99/udp`: published ports, and those that are only exposed."""
    inside = {(port.container_port, port.protocol) for port in published}
    every = [(port.container_port, port.host_ip, port.host_port, port.protocol) for port in published]
    every += [(number, "", 0, protocol) for number, protocol in exposed if (number, protocol) not in inside]
    every.sort()
    mapped = [
        f"{_join(address, str(outside))}->{number}/{protocol}"
        for number, address, outside, protocol in every
        if address and outside != number
    ]
    alike = [
        (address, protocol, number) for number, address, outside, protocol in every if not address or outside == number
    ]
    return ", ".join([*_ranges(alike), *mapped])


def _ranges(ports: Iterable[tuple[str, str, int]]) -> list[str]:
    """Put together ports that follow each other; what ends before the last goes first."""
    open_: dict[tuple[str, str], tuple[int, int]] = {}
    done: list[str] = []
    for address, protocol, number in ports:
        key = (address, protocol)
        first, last = open_.get(key, (number, number - 1))
        if number != last + 1:
            done.append(_range(address, protocol, first, last))
            first = number
        open_[key] = (first, number)
    return done + [_range(*key, first, last) for key, (first, last) in open_.items()]


def _range(address: str, protocol: str, first: int, last: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{_join(address, text)}->{text}/{protocol}" if address else f"{text}/{protocol}"


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
