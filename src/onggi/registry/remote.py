"""A repository at its endpoints, tried in order: mirrors first, the registry itself last.

If none helps there is one error. It tells what was asked, in which order, and what
each answered; its kind is that of the last, which is the registry itself.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from onggi.base.errors import Cancelled, FailedPrecondition, OnggiError, Unavailable
from onggi.host.http_client import Client, NoTls, Unreachable
from onggi.spec.reference import Reference
from onggi.spec.registry import Capability, Endpoint

from .auth import Authentication
from .client import Repository

T = TypeVar("T")

_NO_NETWORK = "without a network, 'onggi image bootstrap' makes a base image from packages and 'onggi load' reads one"


class Remote:
    """What a reference's repository is called, and where it may be found."""

    def __init__(self, name: str, endpoints: Iterable[Endpoint], client: Client, auth: Authentication) -> None:
        """Ask nothing yet. `name` is the repository as people write it: `ubuntu`."""
        self.name = name
        self.repositories = tuple(Repository(endpoint, client, auth, name=name) for endpoint in endpoints)
        self._away: set[Repository] = set()

    @classmethod
    def of(cls, reference: Reference, endpoints: Iterable[Endpoint], client: Client, auth: Authentication) -> "Remote":
        """Give the repository of a reference."""
        return cls(reference.familiar_name, endpoints, client, auth)

    def do(self, capability: Capability, operation: Callable[[Repository], T]) -> T:
        """Do something at the first endpoint where it works.

        An endpoint that could not be reached is asked last from then on. Raises one
        error for all of them, of the kind of the last.
        """
        servers = [able for server in self._servers() if (able := _able(server, capability))]
        if not servers:
            raise FailedPrecondition(f"{self.name}: no registry is configured that may be used to {capability}")
        answers: list[tuple[Server, OnggiError]] = []
        for server in sorted(servers, key=self._away.issuperset):  # a stable sort
            try:
                return self._ask(server, operation)
            except Cancelled:
                raise
            except OnggiError as error:
                answers.append((server, error))
        itself = next(error for server, error in answers if server == servers[-1])
        raise _explain(self.name, answers, itself, capability)

    def wait(self, attempt: int) -> None:
        """Pause before all is tried again."""
        self.repositories[0].wait(attempt)

    def _servers(self) -> list["Server"]:
        """Put each fallback beside what it is the fallback of."""
        servers: list[Server] = []
        for repository in self.repositories:
            if repository.endpoint.fallback and servers:
                servers[-1] += (repository,)
            else:
                servers.append((repository,))
        return servers

    def _ask(self, server: "Server", operation: Callable[[Repository], T]) -> T:
        failure: OnggiError | None = None
        for repository in [one for one in server if one not in self._away] or server:
            try:
                return operation(repository)
            except (Unreachable, NoTls) as error:
                self._away.add(repository)
                failure = failure or error
        assert failure is not None
        raise failure


Server = tuple[Repository, ...]
"""An endpoint, and those to try where nobody speaks as it expects: plain HTTP."""


def _able(server: Server, capability: Capability) -> Server:
    return tuple(repository for repository in server if capability in repository.endpoint.capabilities)


def _explain(
    name: str, answers: list[tuple[Server, OnggiError]], itself: OnggiError, capability: Capability
) -> OnggiError:
    nobody = all(isinstance(error, Unreachable) for _, error in answers)
    if len(answers) == 1 and not nobody:
        return itself
    tried = "; ".join(
        f"{number}. {server[0].endpoint.url}"
        f"{', which answered this' if error is itself and not nobody else f': {error}'}"
        for number, (server, error) in enumerate(answers, 1)
    )
    if nobody:
        only = str(itself) if len(answers) == 1 else f"no registry can be reached (tried in this order: {tried})"
        return Unavailable(f"{name}: {only}" if capability == "push" else f"{name}: {only}; {_NO_NETWORK}")
    return type(itself)(f"{itself} (tried in this order: {tried})")
