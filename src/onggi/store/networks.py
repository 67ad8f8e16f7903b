"""Networks: which subnets they have, who has which address in them, and which ports of the host lead there.

A row comes before what it allows (a link, an element of the packet filter) and goes
after it. Addresses are given in turn, so that one is not used again while the kernel
may still be taking its last user apart. An endpoint belongs to a container or to the
lease of a running command, and goes with it.

`link` is new with every start: whoever saw an endpoint some time ago tells by it
whether it is still the same.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import Final

import msgspec

from onggi.base.errors import Conflict, NotFound, Unavailable
from onggi.host.db import Connection
from onggi.spec.ports import PublishedPort

from .root import StateRoot

FIRST_NUMBER: Final = 2
"""0 is the subnet itself, 1 the gateway."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network; subnets in CIDR notation."""

    name: str
    bridge: str
    subnet4: str
    subnet6: str
    created_ns: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's place in a network: `number` counts from the start of both subnets, `link` is its link on the host."""

    owner: str
    network: str
    number: int
    link: str
    ports: tuple[PublishedPort, ...] = ()


class PortTaken(Conflict):
    """A port is published already; `owner` and `link` say by which endpoint."""

    def __init__(self, text: str, owner: str, link: str) -> None:
        """Keep who has it."""
        super().__init__(text)
        self.owner = owner
        self.link = link


class Networks:
    """The networks of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def get(self, name: str) -> Network | None:
        """Give a network; None if it has not been made."""
        with self._root.db.read() as db:
            row = db.execute(
                "SELECT name, bridge, subnet4, subnet6, created_ns FROM networks WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else Network(**dict(zip(Network.__struct_fields__, row, strict=True)))

    def put(self, network: Network) -> None:
        """Record a network, or its new subnets; who had an address in the old ones has none any more."""
        with self._root.db.write(durable=True) as db:
            db.execute("DELETE FROM endpoints WHERE network = ?", (network.name,))
            db.execute(
                "INSERT INTO networks (name, bridge, subnet4, subnet6, created_ns) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET bridge = excluded.bridge, subnet4 = excluded.subnet4, "
                "subnet6 = excluded.subnet6, last = excluded.last",
                msgspec.structs.astuple(network),
            )

    def attach(
        self, network: str, owner: str, link: str, ports: Sequence[PublishedPort] = (), *, lease: str | None = None
    ) -> Endpoint:
        """Give `owner`, a container or with `lease` anybody, the next free address and these ports.

        What it had before is given up. Raises PortTaken, with Docker's text, NotFound for
        an unknown network or container, Unavailable if all addresses are in use.
        """
        with self._root.db.write() as db:
            db.execute("DELETE FROM endpoints WHERE owner = ? AND network = ?", (owner, network))
            number = _next_number(db, network)
            container = owner if lease is None else None
            if lease is None and not db.execute("SELECT 1 FROM containers WHERE id = ?", (owner,)).fetchone():
                raise NotFound(f"No such container: {owner}")
            db.execute(
                "INSERT INTO endpoints (owner, network, number, link, container, lease) VALUES (?, ?, ?, ?, ?, ?)",
                (owner, network, number, link, container, lease),
            )
            for port in ports:
                _claim_port(db, port)
                db.execute(
                    "INSERT INTO ports (protocol, host_ip, host_port, container_port, owner, network) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (port.protocol, port.host_ip, port.host_port, port.container_port, owner, network),
                )
            db.execute("UPDATE networks SET last = ? WHERE name = ?", (number, network))
        return Endpoint(owner=owner, network=network, number=number, link=link, ports=tuple(ports))

    def detach(self, owner: str, link: str) -> bool:
        """Free the endpoint that had this link; False if it is free already."""
        with self._root.db.write() as db:
            return db.execute("DELETE FROM endpoints WHERE owner = ? AND link = ?", (owner, link)).rowcount > 0

    def endpoints(self, network: str) -> list[Endpoint]:
        """List who has an address in a network."""
        return self._select("WHERE network = ? ORDER BY number", (network,))

    def endpoint(self, owner: str) -> Endpoint | None:
        """Give somebody's endpoint; None for one without network."""
        found = self._select("WHERE owner = ?", (owner,))
        return found[0] if found else None

    def owners(self) -> list[tuple[str, str | None]]:
        """List who has an endpoint, and the lease that it belongs to, None for a container."""
        with self._root.db.read() as db:
            return list(db.execute("SELECT owner, lease FROM endpoints ORDER BY owner"))

    def taken_ports(self, protocol: str) -> set[int]:
        """List the ports of the host that are published, on whatever address."""
        with self._root.db.read() as db:
            return {port for (port,) in db.execute("SELECT host_port FROM ports WHERE protocol = ?", (protocol,))}

    def _select(self, where: str, values: tuple[str, ...]) -> list[Endpoint]:
        with self._root.db.read() as db:
            rows = db.execute(f"SELECT owner, network, number, link FROM endpoints {where}", values).fetchall()
            return [
                Endpoint(owner=owner, network=network, number=number, link=link, ports=_ports(db, owner, network))
                for owner, network, number, link in rows
            ]


def _ports(db: Connection, owner: str, network: str) -> tuple[PublishedPort, ...]:
    rows: Iterable[tuple[str, str, int, int]] = db.execute(
        "SELECT protocol, host_ip, host_port, container_port FROM ports WHERE owner = ? AND network = ? "
        "ORDER BY container_port, protocol, host_ip, host_port",
        (owner, network),
    )
    return tuple(
        PublishedPort(protocol=protocol, host_ip=host_ip, host_port=host_port, container_port=container_port)
        for protocol, host_ip, host_port, container_port in rows
    )


def _next_number(db: Connection, network: str) -> int:
    row = db.execute("SELECT subnet4, last FROM networks WHERE name = ?", (network,)).fetchone()
    if row is None:
        raise NotFound(f"network {network} not found")
    end = IPv4Network(row[0]).num_addresses - 1  # the last one is for broadcasts
    used = {number for (number,) in db.execute("SELECT number FROM endpoints WHERE network = ?", (network,))}
    start: int = max(row[1] + 1, FIRST_NUMBER)
    for numbers in (range(start, end), range(FIRST_NUMBER, min(start, end))):
        for number in numbers:
            if number not in used:
                return number
    raise Unavailable(f"no available IPv4 addresses on network {network} ({row[0]}): all are in use; stop a container")


def _claim_port(db: Connection, port: PublishedPort) -> None:
    """See that nobody has the port, as bind(2) would: an address that is every address collides with each."""
    every = "::" if ":" in port.host_ip else "0.0.0.0"
    like = "%:%" if ":" in port.host_ip else "%.%"
    row = db.execute(
        "SELECT ports.owner, link, coalesce(name, substr(ports.owner, 1, 12)) "
        "FROM ports JOIN endpoints USING (owner, network) LEFT JOIN containers ON containers.id = ports.owner "
        "WHERE protocol = ? AND host_port = ? AND host_ip LIKE ? AND (host_ip IN (?, ?) OR ? = ?)",
        (port.protocol, port.host_port, like, port.host_ip, every, port.host_ip, every),
    ).fetchone()
    if row is not None:
        address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
        raise PortTaken(
            f"Bind for {address}:{port.host_port} failed: port is already allocated, by container {row[2]}; "
            "stop that one, or publish another port",
            row[0],
            row[1],
        )
