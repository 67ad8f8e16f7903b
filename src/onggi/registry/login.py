"""Logging in: a registry says whether it knows a credential, which is kept then."""

from typing import Protocol

import msgspec

from onggi.spec.registry import Credential

from .credentials import Credentials


class Checker(Protocol):
    """What logging in needs of a registry's client."""

    def check(self, host: str, credential: Credential) -> str:
        """Ask a registry whether it knows us; gives the identity token that stands for the password from now on, or "".

        Raises Unauthorized, or Unavailable if the registry cannot be asked.
        """


def log_in(credentials: Credentials, checker: Checker, host: str, credential: Credential) -> str:
    """Check a credential and keep it; gives the file that has a password as plain text now, or ""."""
    credential = _with_token(credential, checker.check(host, credential))
    path = credentials.save(host, credential)
    return path if credential.password else ""


def log_in_again(credentials: Credentials, checker: Checker, host: str, kept: Credential) -> None:
    """Check a credential that is kept already; only an identity token that comes of it is new."""
    if token := checker.check(host, kept):
        credentials.save(host, _with_token(kept, token))


def _with_token(credential: Credential, token: str) -> Credential:
    return msgspec.structs.replace(credential, password="", identity_token=token) if token else credential
