"""What a registry's refusals mean: statuses become kinds of errors, with Docker's sentences."""

from typing import Final

from onggi.base.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotSupported,
    OnggiError,
    Unauthorized,
    Unavailable,
)
from onggi.host.http_client import Response, shown
from onggi.spec.challenge import RemoteError, parse_error

_DENIED: Final = frozenset({"DENIED", "UNAUTHORIZED"})
_UNKNOWN: Final = frozenset({"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UPLOAD_UNKNOWN"})


def refusal(response: Response, name: str, what: str, *, pushing: bool = False) -> OnggiError:
    """Explain an answer that is no success; `what` of the repository `name` was asked for (`manifest for a:1`).

    Closes the answer.
    """
    with response:
        said = parse_error(response.error_body())
        status = response.status
        sentence = said.sentence
        if status in (401, 403) or (status < 500 and _DENIED & set(said.codes)):
            return Unauthorized(_denied(name, sentence, pushing=pushing))
        if status in (404, 410) or (status < 500 and _UNKNOWN & set(said.codes)):
            return NotFound(f"{what} not found: {sentence or 'not found'}")
        if status == 429:
            return Unavailable(
                _prefixed("toomanyrequests", sentence or "the registry asks for fewer requests, try later")
            )
        where = f"{shown(response.url)}: the registry answered {response.said}{': ' if sentence else ''}{sentence}"
        if status >= 500:
            return Unavailable(f"{where}; it may work later")
        if status in (400, 414, 416):
            return InvalidArgument(where)
        if status in (405, 406, 415):
            return NotSupported(where)
        return FailedPrecondition(where)


def is_unknown(error: RemoteError) -> bool:
    """Whether an error body says that something is not there."""
    return bool(_UNKNOWN & set(error.codes))


def _denied(name: str, sentence: str, *, pushing: bool) -> str:
    verb = "push" if pushing else "pull"
    return (
        f"{verb} access denied for {name}, repository does not exist or may require 'onggi login': "
        f"{sentence or 'denied: requested access to the resource is denied'}"
    )


def _prefixed(code: str, sentence: str) -> str:
    return sentence if sentence.startswith(code) else f"{code}: {sentence}"
