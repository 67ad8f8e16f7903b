"""What registries say in headers and error bodies; hostile texts give nothing, or at most a plain sentence."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.spec.challenge import (
    Challenge,
    ContentRange,
    RemoteError,
    parse_challenges,
    parse_content_range,
    parse_error,
    parse_next_page,
    parse_retry_after,
    parse_upload_range,
)

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
TOKENS = st.text("abcXYZ019-._~!#$%&'*+^`|", min_size=1, max_size=12)
HOSTILE = st.text('Bearer ="\\,;<>/\t\r\nabc019-:é\x1b', max_size=80) | st.text(max_size=80)


def challenge(scheme: str, **parameters: str) -> Challenge:
    return Challenge(scheme=scheme, parameters=parameters)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [HUB],
            [
                challenge(
                    "bearer",
                    realm="https://auth.docker.io/token",
                    service="registry.docker.io",
                    scope="repository:a/b:pull,push",
                )
            ],
        ),
        (['Basic realm="a, \\"b\\""'], [challenge("basic", realm='a, "b"')]),
        (["BASIC Realm = x , charset=UTF-8"], [challenge("basic", realm="x", charset="UTF-8")]),
        (
            ['Negotiate, Basic realm="r", Bearer realm="t"'],
            [challenge("negotiate"), challenge("basic", realm="r"), challenge("bearer", realm="t")],
        ),
        (["Negotiate abc/+==, Basic realm=r"], [challenge("negotiate"), challenge("basic", realm="r")]),
        (["Basic realm=a", "Bearer realm=b"], [challenge("basic", realm="a"), challenge("bearer", realm="b")]),
        (["Bearer realm=a, realm=b"], [challenge("bearer", realm="a")]),
        (['Bearer realm="never closed'], [challenge("bearer")]),
        (['Bearer realm="a" junk'], [challenge("bearer"), challenge("junk")]),
        (["", ",,,", "=x", '"', "é"], []),
        (["Bearer realm=" + "a" * 20000], []),
    ],
)
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    found = parse_challenges(headers)
    if headers == ['Bearer realm="a" junk']:  # no grammar says what that is: at least no realm is taken from it
        assert all(item.parameters.get("realm", "a") == "a" for item in found)
    else:
        assert found == tuple(expected)


@given(
    st.lists(st.tuples(TOKENS, st.dictionaries(TOKENS.map(str.lower), st.text(max_size=20), max_size=4)), max_size=4)
)
def test_challenges_survive_being_written(offers: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in offers
    )
    assert parse_challenges([header]) == tuple(
        Challenge(scheme=scheme.lower(), parameters=parameters) for scheme, parameters in offers
    )


@given(st.lists(HOSTILE, max_size=4))
def test_hostile_headers_are_read_or_left(headers: list[str]) -> None:
    for item in parse_challenges(headers):
        assert item.scheme
        assert item.scheme == item.scheme.lower()
    parse_next_page(headers, "https://r.example/v2/a/tags/list")
    for header in headers:
        found = parse_content_range(header)
        assert found is None or found.first <= found.last
        assert (parse_upload_range(header) or 0) >= 0
        assert (parse_retry_after(header, DATE) or 0) >= 0


@pytest.mark.parametrize(
    "text", ["Bearer " + 'a="' * 5000, "a " * 8000, '"\\' * 8000, "<" * 16000, ',<a>;rel="' * 1500]
)
def test_long_headers_cost_little(text: str) -> None:
    before = time.process_time()
    parse_challenges([text] * 100)  # http.client takes no more
    parse_next_page([text], "https://r.example/")
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "https://r.example/v2/a/tags/list?n=2&last=b"),
        ("<https://other.example/x>; rel=next", "https://other.example/x"),
        (
            '</first>; rel="first", <list?last=a,b>; title="x, y"; rel="prev next"',
            "https://r.example/v2/a/list?last=a,b",
        ),
        ('</p>; rel="prev"', None),
        ('</p>; rel="prev"; rel="next"', None),  # RFC 8288: the first rel counts
        ("</p>", None),
        ("<>; rel=next", None),
        ("<//[>; rel=next", None),
        ("rel=next", None),
    ],
)
def test_the_next_page(link: str, expected: str | None) -> None:
    assert parse_next_page([link], "https://r.example/v2/a/tags") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-1023/4096", ContentRange(first=0, last=1023, total=4096)),
        (" Bytes  5-5/* ", ContentRange(first=5, last=5, total=None)),
        ("bytes 5-4/10", None),
        ("bytes 0-10/10", None),
        ("bytes */10", None),
        ("items 0-1/2", None),
        ("bytes -1-1/2", None),
        ("bytes 0-99999999999999999999/*", None),
        ("bytes 0-٣/4", None),
    ],
)
def test_content_ranges(text: str, expected: ContentRange | None) -> None:
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-1023", 1024), ("bytes=0-9", 10), ("0-0", 0), ("1-2", None), ("0--1", None), ("", None), ("0-1,5-9", None)],
)
def test_ranges_of_uploads(text: str, expected: int | None) -> None:
    assert parse_upload_range(text) == expected


@pytest.mark.parametrize(
    ("text", "date", "expected"),
    [
        ("120", "", 120),
        ("Wed, 21 Oct 2015 07:28:30 GMT", DATE, 30),
        ("Wed, 21 Oct 2015 07:27:30 GMT", DATE, 0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "", None),
        ("-5", DATE, None),
        ("soon", DATE, None),
        ("1e3", DATE, None),
    ],
)
def test_retry_after(text: str, date: str, expected: float | None) -> None:
    assert parse_retry_after(text, date) == expected


def errors(*items: Any) -> bytes:
    return json.dumps({"errors": list(items)}).encode()


@pytest.mark.parametrize(
    ("body", "codes", "sentence"),
    [
        (
            errors({"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "x"}}),
            ("MANIFEST_UNKNOWN",),
            "manifest unknown: manifest unknown",
        ),
        (errors({"code": "DENIED"}), ("DENIED",), "denied"),
        (errors({"message": "no"}, {"message": "no"}, {"code": "A_B", "detail": "d"}), ("A_B",), "no; a b: d"),
        (b'{"details":"incorrect username or password"}', (), "incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"expired"}', (), "expired"),
        (b'{"message": 5}', (), ""),
        (errors(1, None, [], {}), (), ""),
        (b'{"errors": "x", "message": "y"}', (), "y"),
        (b"<html>", (), ""),
        (b"[]", (), ""),
        (b"", (), ""),
        (b"[" * 20000, (), ""),
        (b'{"message":"\\u001b[31mred\\r\\nnext\\u202e"}', (), "[31mred next"),
    ],
)
def test_error_bodies(body: bytes, codes: tuple[str, ...], sentence: str) -> None:
    assert parse_error(body) == RemoteError(codes=codes, sentence=sentence)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["errors", "code", "message", "detail", "error"]), inner)) | st.binary())  # fmt: skip
def test_any_error_body_gives_one_bounded_line(document: Any) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode("utf-8", "replace")
    sentence = parse_error(body).sentence
    assert len(sentence) <= 400
    assert sentence.isprintable() or not any(ord(letter) < 32 or ord(letter) == 127 for letter in sentence)
