"""Who we are at a registry: bearer tokens and basic authentication (distribution's docs/spec/auth).

A registry answers 401 and names a realm; the realm gives a token for scopes
(`repository:library/ubuntu:pull`), to anybody or to those who say who they are.
A realm may be another host (auth.docker.io): it gets neither the headers of the
endpoint nor its client certificate, and our credentials only by https or on this
machine. A token goes to the endpoint that asked for it, and nowhere else.
"""

import base64
import re
import threading
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, OnggiError, Unauthorized, Unavailable
from onggi.host.clock import monotonic_s
from onggi.host.http import is_loopback
from onggi.host.http_client import ATTEMPTS, Body, Client, Response, Trust, origin, shown, split_url
from onggi.spec.challenge import Challenge, parse_challenges, parse_error
from onggi.spec.json import json_decoder, parse_json
from onggi.spec.registry import Credential, Endpoint

MAX_TOKEN_BYTES: Final = 1 << 20
CLIENT_ID: Final = "onggi"
LIFETIME_S: Final = 60.0
"""How long a token is good for if nobody says it, and at least."""
_MARGIN: Final = 0.2
_MAX_MARGIN_S: Final = 30.0
_MAX_SCOPES: Final = 10
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

FindCredential = Callable[[str, str], Credential | None]
"""Gives what is known about a host (`Endpoint.host`) and a repository there."""


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: float | None = None

    def __repr__(self) -> str:
        return "_Answer(***)"


class _Held(msgspec.Struct, frozen=True):
    """What goes into the Authorization header, and until when."""

    value: str
    until_s: float

    def __repr__(self) -> str:
        return f"_Held(***, until_s={self.until_s})"


_ANSWER: Final = json_decoder(_Answer)


class Authentication:
    """Tokens of all endpoints that one command asks; several threads share it."""

    def __init__(
        self,
        client: Client,
        find: FindCredential = lambda host, repository: None,
        *,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        """Know nothing yet; credentials are looked for when an endpoint asks."""
        self._client, self._find, self._clock = client, find, clock
        self._held: dict[tuple[str, tuple[str, ...]], _Held] = {}
        self._challenges: dict[str, Challenge] = {}
        self._found: dict[tuple[str, str], Credential | None] = {}
        self._problems: dict[tuple[str, str], OnggiError] = {}
        self._lock = threading.RLock()

    def send(
        self,
        endpoint: Endpoint,
        scopes: Iterable[str],
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Body | None = None,
        attempts: int = ATTEMPTS,
    ) -> Response:
        """Ask as whom we are for `scopes`; a 401 is answered once. Elsewhere than at the endpoint we are nobody."""
        wanted, fields = tuple(scopes), tuple(headers)

        def send(*fields: tuple[str, str]) -> Response:
            return self._client.send(
                method,
                url,
                trust=Trust.of(endpoint),
                headers=fields,
                body=body,
                attempts=attempts,
                connect_s=endpoint.connect_timeout_s,
            )

        if origin(url) != origin(endpoint.url):
            return send(*fields)
        fields = (*endpoint.headers, *fields)
        given = self._authorization(endpoint, wanted)
        response = send(*fields, *given)
        if response.status != 401 or origin(response.url) != origin(endpoint.url):
            return response
        try:
            challenges = parse_challenges(response.headers("WWW-Authenticate"))
            value = self._answer(endpoint, wanted, challenges, stale=given[0][1] if given else "")
        except Unauthorized as error:
            response.close()
            raise self._problem(endpoint) or error from None
        except BaseException:
            response.close()
            raise
        if value is None:
            return response
        response.close()
        response = send(*fields, ("Authorization", value))
        if response.status in (401, 403) and (problem := self._problem(endpoint)):
            response.close()
            raise problem
        return response

    def through(self, client: Client) -> "Authentication":
        """Give the same tokens over another client."""
        other = Authentication(client, self._find, clock=self._clock)
        with self._lock:
            other._held, other._challenges = dict(self._held), dict(self._challenges)
            other._found, other._problems = dict(self._found), dict(self._problems)
        return other

    def _authorization(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        with self._lock:
            held = self._held.get((endpoint.url, scopes))
            if held and self._clock() < held.until_s:
                return (("Authorization", held.value),)
            if challenge := self._challenges.get(endpoint.url):
                return (("Authorization", self._obtain(endpoint, scopes, challenge)),)
            return ()

    def _answer(
        self, endpoint: Endpoint, scopes: tuple[str, ...], challenges: tuple[Challenge, ...], *, stale: str
    ) -> str | None:
        """Give a new Authorization for a refused one, None where there is none."""
        with self._lock:
            held = self._held.get((endpoint.url, scopes))
            if held and held.value != stale and self._clock() < held.until_s:
                return held.value  # another thread was here before
            credential = self._credential(endpoint)
            if credential and credential.registry_token:
                return self._hold(endpoint, scopes, f"Bearer {_checked(credential.registry_token)}", stale)
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    return self._obtain(endpoint, scopes, challenge)
                if challenge.scheme == "basic":
                    value = _basic(credential) if credential else ""
                    if not value:
                        raise Unauthorized(f"{endpoint.host}: no basic auth credentials; 'onggi login' keeps some")
                    return self._hold(endpoint, scopes, value, stale)
            return None

    def _hold(self, endpoint: Endpoint, scopes: tuple[str, ...], value: str, stale: str) -> str | None:
        """Keep what is good until it is refused; None if it was just now."""
        if value == stale:
            return None
        self._held[endpoint.url, scopes] = _Held(value, float("inf"))
        return value

    def _obtain(self, endpoint: Endpoint, scopes: tuple[str, ...], challenge: Challenge) -> str:
        asked = challenge.parameters.get("scope", "").split()
        wanted = tuple(dict.fromkeys((*scopes, *asked)))[:_MAX_SCOPES]
        answer = fetch_token(self._client, endpoint, challenge, wanted, self._credential(endpoint))
        seconds = max(LIFETIME_S, answer.expires_in or LIFETIME_S)
        held = _Held(
            f"Bearer {_checked(answer.access_token or answer.token)}",
            self._clock() + seconds - min(_MAX_MARGIN_S, seconds * _MARGIN),
        )
        # The next scope is asked for at the same realm, without a 401 first.
        self._challenges[endpoint.url] = Challenge(
            scheme="bearer",
            parameters={name: value for name, value in challenge.parameters.items() if name in ("realm", "service")},
        )
        self._held[endpoint.url, scopes] = held
        return held.value

    def _credential(self, endpoint: Endpoint) -> Credential | None:
        """Look once. Where that fails we are nobody; who is refused then hears why, and most images are public."""
        key = (endpoint.host, endpoint.repository)
        if key not in self._found:
            try:
                self._found[key] = self._find(*key)
            except OnggiError as error:
                self._found[key], self._problems[key] = None, error
        return self._found[key]

    def _problem(self, endpoint: Endpoint) -> Unauthorized | None:
        error = self._problems.get((endpoint.host, endpoint.repository))
        return Unauthorized(f"{endpoint.host} wants a login, and looking for one failed: {error}") if error else None


def check(client: Client, endpoint: Endpoint, credential: Credential) -> str:
    """Log in: give the identity token that the registry hands out, empty if it has none to give.

    Raises Unauthorized with the registry's sentence.
    """
    url, trust = f"{endpoint.url}/", Trust.of(endpoint)
    value, identity = "", ""
    with client.send("GET", url, trust=trust, headers=endpoint.headers) as response:
        _only_here(endpoint, response)
        challenges = parse_challenges(response.headers("WWW-Authenticate"))
        if response.status != 401:
            _require_ok(url, response)
            return ""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            scopes = tuple(challenge.parameters.get("scope", "").split())[:_MAX_SCOPES]
            answer = fetch_token(client, endpoint, challenge, scopes, credential, login=True)
            value, identity = f"Bearer {_checked(answer.access_token or answer.token)}", answer.refresh_token
            break
        if challenge.scheme == "basic" and (value := _basic(credential)):
            break
    if not value:
        raise Unauthorized(f'Get "{shown(url)}": no basic auth credentials')
    with client.send("GET", url, trust=trust, headers=(*endpoint.headers, ("Authorization", value))) as response:
        _require_ok(url, response)
    return identity


def fetch_token(
    client: Client,
    endpoint: Endpoint,
    challenge: Challenge,
    scopes: tuple[str, ...],
    credential: Credential | None,
    *,
    login: bool = False,
) -> _Answer:
    """Ask a realm for a token for `scopes`; `login` also asks for an identity token.

    An identity token is exchanged by POST (OAuth 2), a password shown by GET, and by
    POST where a realm knows no GET. Raises Unauthorized, Unavailable, Corrupt.
    """
    realm = challenge.parameters["realm"]
    service = challenge.parameters.get("service", "")
    if credential and (credential.identity_token or credential.password):
        _require_private(realm, endpoint)
    common = {"service": service} if service else {}
    form = {**common, "client_id": CLIENT_ID, "scope": " ".join(scopes)}
    if credential and credential.identity_token:
        exchange = {"grant_type": "refresh_token", "refresh_token": credential.identity_token}
        with _post(client, endpoint, realm, {**form, **exchange}) as response:
            return _token(realm, response)
    query = [*common.items(), *(("scope", scope) for scope in scopes)]
    headers: tuple[tuple[str, str], ...] = ()
    if credential and (basic := _basic(credential)):
        query.append(("account", credential.username))
        headers = (("Authorization", basic),)
        if login:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
    with client.send("GET", _with_query(realm, query), trust=Trust.of(endpoint), headers=headers) as response:
        if not headers or credential is None or response.status not in (404, 405, 501):
            return _token(realm, response)
    password = {"grant_type": "password", "username": credential.username, "password": credential.password}
    offline = {"access_type": "offline"} if login else {}
    with _post(client, endpoint, realm, {**form, **password, **offline}) as response:
        return _token(realm, response)


def _post(client: Client, endpoint: Endpoint, realm: str, form: dict[str, str]) -> Response:
    return client.send(
        "POST",
        realm,
        trust=Trust.of(endpoint),
        headers=(("Content-Type", "application/x-www-form-urlencoded"),),
        body=urlencode({name: value for name, value in form.items() if value}, errors="surrogateescape").encode(),
    )


def _token(realm: str, response: Response) -> _Answer:
    _require_ok(realm, response, method=None)
    body = response.read(MAX_TOKEN_BYTES, "a token")
    try:
        answer = parse_json(body, _ANSWER, "token", MAX_TOKEN_BYTES)
    except OnggiError:  # its text may have the token
        raise Corrupt(f"{shown(realm)}: its answer is no token") from None
    if not (answer.access_token or answer.token):
        raise Unauthorized(f"{shown(realm)}: authorization server did not include a token in the response")
    return answer


def _require_ok(url: str, response: Response, method: str | None = "Get") -> None:
    if 200 <= response.status < 300:
        return
    said = parse_error(response.error_body()).sentence
    where = f'{method} "{shown(url)}"' if method else shown(url)
    if response.status in (400, 401, 403):
        sentence = said if ": " in said else f"unauthorized: {said or 'authentication required'}"
        raise Unauthorized(f"{where}: {sentence}")
    raise Unavailable(f"{where}: the server answered {response.said}{': ' if said else ''}{said}")


def _require_private(realm: str, endpoint: Endpoint) -> None:
    """Credentials go by https, or stay on this machine, or go where plain HTTP was asked for."""
    place = split_url(realm)
    if not (place.scheme == "https" or is_loopback(place.hostname or "") or origin(realm) == origin(endpoint.url)):
        raise Unauthorized(
            f"{endpoint.host}: it wants credentials to be sent to {shown(realm)}, which is not encrypted; "
            "this is refused"
        )


def _only_here(endpoint: Endpoint, response: Response) -> None:
    if response.status == 401 and origin(response.url) != origin(endpoint.url):
        raise Unauthorized(f"{endpoint.host}: another server, {shown(response.url)}, asks for credentials; refused")


def _basic(credential: Credential) -> str:
    if not credential.username or not credential.password:
        return ""
    plain = f"{credential.username}:{credential.password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(plain).decode()


def _checked(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise InvalidArgument("a registry's token has letters that no header may have")
    return token


def _with_query(url: str, query: list[tuple[str, str]]) -> str:
    place = split_url(url)
    kept = parse_qsl(place.query, keep_blank_values=True)
    return place._replace(
        query=urlencode([*kept, *query], errors="surrogateescape", quote_via=quote, safe="/:,")
    ).geturl()
