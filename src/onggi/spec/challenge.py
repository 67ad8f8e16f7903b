"""What registries say in headers and error bodies, read as values (RFC 9110, RFC 8288, distribution-spec).

All of it comes from strangers. What cannot be read is left out, never guessed at:
a header that is no challenge is none, and an error body without a sentence gives
an empty one. Texts that reach a terminal have no control characters.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urljoin

import msgspec

from onggi.base.errors import OnggiError

from .json import json_decoder, parse_json

MAX_HEADER_BYTES: Final = 16 << 10
MAX_ERROR_BYTES: Final = 64 << 10
_MAX_CHALLENGES: Final = 16
_MAX_ERRORS: Final = 5
_MAX_SENTENCE: Final = 400

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"((?:[^"\\]|\\.)*)"'
_PARAMETER: Final = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*(?:{_QUOTED}|({_TOKEN}))(?=[ \t]*(?:,|$))", re.DOTALL)
_SCHEME: Final = re.compile(rf"({_TOKEN})(?=[ \t,]|$)")
_TOKEN68: Final = re.compile(r"[ \t]+[0-9A-Za-z._~+/-]+=*(?=[ \t]*(?:,|$))")
_GAP: Final = re.compile(r"[ \t,]*")
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)*', re.DOTALL)
_LINK: Final = re.compile(r"[ \t]*<([^<>]*)>(.*)", re.DOTALL)
_RELATION: Final = re.compile(rf";[ \t]*rel[ \t]*=[ \t]*(?:{_QUOTED}|({_TOKEN}))[ \t]*(?=;|$)", re.IGNORECASE)
_CONTENT_RANGE: Final = re.compile(r"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_UPLOAD_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """One way in that a server offers: `bearer` with realm, service and scope, or `basic` with a realm."""

    scheme: str
    parameters: dict[str, str] = {}


class ContentRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which bytes a partial answer has: `first` to `last`, both included; `total` is None where it is not told."""

    first: int
    last: int
    total: int | None


class RemoteError(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says: its codes (`MANIFEST_UNKNOWN`) and one sentence, in Docker's words."""

    codes: tuple[str, ...] = ()
    sentence: str = ""


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read all WWW-Authenticate headers of an answer; names are in lower case, the first of two values counts."""
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= MAX_HEADER_BYTES and len(found) < _MAX_CHALLENGES:
            found += _challenges(header)
    return tuple(found[:_MAX_CHALLENGES])


def parse_next_page(headers: Iterable[str], url: str) -> str | None:
    """Give the absolute URL that Link headers of the page `url` call its `next`."""
    for header in headers:
        if len(header) > MAX_HEADER_BYTES:
            continue
        for element in _elements(header):
            link = _LINK.match(element)
            if link is None or not link[1]:
                continue
            relations = [quoted or plain for quoted, plain in _RELATION.findall(link[2])]
            if relations and "next" in relations[0].lower().split():
                try:
                    return str(urljoin(url, link[1]))
                except ValueError:  # no URL: an unclosed bracket
                    return None
    return None


def parse_content_range(header: str) -> ContentRange | None:
    """Read `bytes 0-1023/4096`; None for what is no range of bytes."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first > last or (total is not None and last >= total):
        return None
    return ContentRange(first=first, last=last, total=total)


def parse_upload_range(header: str) -> int | None:
    """Give how many bytes of an upload are there, from `0-1023`.

    Registries write `0-0` for none as well as for one: it is read as none.
    """
    match = _UPLOAD_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    last = int(match[1])
    return last + 1 if last else 0


def parse_retry_after(header: str, date: str = "") -> float | None:
    """Give seconds to wait: a number, or a moment that is compared with the answer's own Date."""
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    until, now = _moment(text), _moment(date.strip())
    return max(0.0, (until - now).total_seconds()) if until and now else None


def parse_error(body: bytes) -> RemoteError:
    """Read an error body: distribution's list of errors, or what token servers send instead."""
    try:
        document = parse_json(body, _ANYTHING, "error", MAX_ERROR_BYTES)
    except OnggiError:
        return RemoteError()
    if not isinstance(document, dict):
        return RemoteError()
    errors = document.get("errors")
    if isinstance(errors, list) and errors:
        items = [item for item in errors[:_MAX_ERRORS] if isinstance(item, dict)]
        codes = tuple(code for item in items if (code := plain(item.get("code"))))
        sentences = list(dict.fromkeys(text for item in items if (text := _sentence(item))))
        return RemoteError(codes=codes, sentence=_bounded("; ".join(sentences)))
    for name in ("error_description", "details", "message", "error"):
        if text := plain(document.get(name)):
            return RemoteError(sentence=text)
    return RemoteError()


def plain(value: object) -> str:
    """Give a text of a stranger on one line, bounded, without what a terminal would obey; empty for another type."""
    return _bounded(_CONTROL.sub(" ", value).strip()) if isinstance(value, str) else ""


_ANYTHING: Final = json_decoder(Any)


def _challenges(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    at, end = 0, len(header)
    while (at := _GAP.match(header, at).end()) < end and len(found) <= _MAX_CHALLENGES:  # type: ignore[union-attr]  # it matches nothing, too
        if found and (parameter := _PARAMETER.match(header, at)):
            value = re.sub(r"\\(.)", r"\1", parameter[2], flags=re.DOTALL) if parameter[2] is not None else parameter[3]
            found[-1].parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        elif scheme := _SCHEME.match(header, at):
            found.append(Challenge(scheme=scheme[1].lower(), parameters={}))
            at = scheme.end()
            if not _PARAMETER.match(header, _GAP.match(header, at).end()) and (  # type: ignore[union-attr]
                credentials := _TOKEN68.match(header, at)
            ):
                at = credentials.end()
        else:
            at = _ELEMENT.match(header, at).end() + 1  # type: ignore[union-attr]
    return found


def _elements(header: str) -> list[str]:
    """Split at commas that are neither in quotes nor in a URL."""
    return re.findall(r'(?:[^",<]|"(?:[^"\\]|\\.)*"?|<[^<>]*>?)+', header, re.DOTALL)


def _sentence(item: dict[str, Any]) -> str:
    code = plain(item.get("code")).lower().replace("_", " ")
    message = plain(item.get("message"))
    detail = plain(item.get("detail"))
    if detail and detail not in message:
        message = f"{message}: {detail}" if message else detail
    return f"{code}: {message}" if code and message else code or message


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT")
    except ValueError:
        return None
