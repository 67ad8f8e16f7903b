"""What a registry is and who we are there: the types that configuration, authentication and transfer share.

An endpoint is one server at which a repository may be found; a reference has several
where mirrors are configured. Secrets are in no `repr`, so in no log and no error.
"""

from typing import Final, Literal

import msgspec

Capability = Literal["pull", "resolve", "push"]
"""What an endpoint may be used for: to fetch by digest, to turn a tag into a digest, to upload."""

EVERYTHING: Final[tuple[Capability, ...]] = ("pull", "resolve", "push")


class ClientCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of a PEM certificate and its key; `key` is empty where the certificate's file has both."""

    certificate: str
    key: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the distribution API.

    url             base of its API without a slash at the end: `https://registry.example.com/v2`
    host            what credentials are kept under: `docker.io`, `registry.example.com:5000`
    repository      path of the repository there, after rewrites
    insecure        its certificate is not verified
    ca_files        PEM files of authorities, beside those of the host
    headers         sent with every request
    fallback        to try only where the endpoint before it cannot be reached or does not speak TLS
    namespace       the registry that it stands in for, sent as `?ns=`; empty for the registry itself
    """

    url: str
    host: str
    repository: str
    capabilities: tuple[Capability, ...] = EVERYTHING
    insecure: bool = False
    ca_files: tuple[str, ...] = ()
    client_certificates: tuple[ClientCertificate, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    fallback: bool = False
    namespace: str = ""
    connect_timeout_s: float | None = None

    def __repr__(self) -> str:
        """Say where; headers may be secret."""
        return f"Endpoint(url={self.url!r}, repository={self.repository!r})"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry knows us by. An identity token is exchanged for access; a registry token is access itself."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        """Say who, and nothing secret."""
        return f"Credential(username={self.username!r})"
