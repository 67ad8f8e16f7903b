"""A repository at its endpoints, tried in order: mirrors first, the registry itself last.

If none helps there is one error. It tells what was asked, in which order, and what
each answered; its kind is that of the last, which is the registry itself.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from onggi.base.errors import Cancelled, FailedPrecondition, OnggiError, Unavailable
from onggi.host.http_client import Client, Unreachable
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
        able = [repository for repository in self.repositories if capability in repository.endpoint.capabilities]
        if not able:
            raise FailedPrecondition(f"{self.name}: no registry is configured that may be used to {capability}")
        answers: dict[Repository, OnggiError] = {}
        for repository in sorted(able, key=lambda one: one in self._away):  # a stable sort
            try:
                return operation(repository)
            except Cancelled:
                raise
            except Unreachable as error:
                self._away.add(repository)
                answers[repository] = error
            except OnggiError as error:
                answers[repository] = error
        raise _explain(self.name, able, answers, capability)


def _explain(
    name: str, asked: list[Repository], answers: dict[Repository, OnggiError], capability: Capability
) -> OnggiError:
    last = answers[asked[-1]]
    nobody = all(isinstance(error, Unreachable) for error in answers.values())
    if len(answers) == 1 and not nobody:
        return last
    tried = "; ".join(
        f"{number}. {one.endpoint.url}{', which answered this' if error is last and not nobody else f': {error}'}"
        for number, (one, error) in enumerate(answers.items(), 1)
    )
    if nobody:
        only = str(last) if len(answers) == 1 else f"no registry can be reached (tried in this order: {tried})"
        return Unavailable(f"{name}: {only}" if capability == "push" else f"{name}: {only}; {_NO_NETWORK}")
    return type(last)(f"{last} (tried in this order: {tried})")
