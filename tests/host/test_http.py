"""HTTP from a server on loopback that may be hostile: what is bounded, and what people are told."""

import socket
import threading
from collections.abc import Iterator

import pytest

from onggi.base.errors import Corrupt, NotFound, OnggiError, Unavailable
from onggi.host.http import Downloads, Proxies
from tests.debian_archive import Archive, Mirror, broken_off, endless, moved, refused


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    archive = Archive()
    archive.files["file"] = b"content"
    with Mirror(archive) as server:
        yield server


def get(mirror: Mirror, path: str = "file", *, max_bytes: int = 100, proxies: Proxies | None = None) -> bytes:
    return Downloads(proxies).get(f"{mirror.host}/{path}", max_bytes=max_bytes)


def test_a_file_is_fetched(mirror: Mirror) -> None:
    assert get(mirror) == b"content"
    assert get(mirror, max_bytes=7) == b"content"


def test_what_is_not_there_is_not_there(mirror: Mirror) -> None:
    with pytest.raises(NotFound, match="is not there"):
        get(mirror, "other")


def test_a_body_without_an_end_is_cut(mirror: Mirror) -> None:
    mirror.answers["file"] = endless
    with pytest.raises(Corrupt, match="larger than the 1000 bytes"):
        get(mirror, max_bytes=1000)


def test_a_body_that_breaks_off_is_an_error(mirror: Mirror) -> None:
    mirror.answers["file"] = broken_off
    with pytest.raises(Unavailable):
        get(mirror, max_bytes=1 << 20)


def test_a_refusal_is_told(mirror: Mirror) -> None:
    mirror.answers["file"] = refused
    with pytest.raises(Unavailable, match="answered 403 Forbidden"):
        get(mirror)


def test_redirects_are_followed_to_an_end(mirror: Mirror) -> None:
    mirror.answers["a"] = moved("/b")
    mirror.answers["b"] = moved(f"{mirror.host}/file")
    assert get(mirror, "a") == b"content"


def test_redirects_in_circles_end(mirror: Mirror) -> None:
    mirror.answers["a"] = moved("/a")
    with pytest.raises(Unavailable):
        get(mirror, "a")
    assert 1 < mirror.asked.count("a") < 10


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//["])
def test_redirects_lead_to_http_only(mirror: Mirror, url: str) -> None:
    mirror.answers["a"] = moved(url)
    with pytest.raises(OnggiError):
        get(mirror, "a")


def test_nobody_there_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unavailable, match=r"cannot be fetched: .*is there a network"):
        Downloads().get(f"http://127.0.0.1:{port}/x", max_bytes=1)


def test_what_is_no_http_is_an_error(mirror: Mirror) -> None:
    mirror.answers["file"] = lambda write: write(b"\0\1\2 nonsense\r\n\r\n")
    with pytest.raises(Unavailable):
        get(mirror)


def test_a_proxy_is_asked_for_the_whole_url(mirror: Mirror) -> None:
    mirror.answers["http://elsewhere.example/x"] = lambda write: write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    )
    downloads = Downloads(Proxies(http=mirror.host))
    assert downloads.get("http://elsewhere.example/x", max_bytes=10) == b"hi"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://m.example/x", "P"),
        ("https://m.example/x", "S"),
        ("http://m.internal/x", ""),
        ("http://internal:8080/x", ""),
        ("http://notinternal/x", "P"),
        ("http://10.0.0.1/x", ""),
        ("http://[::1]:80/x", ""),
        ("http://user@host.example:8080/x", ""),
    ],
)
def test_no_proxy_is_minded(url: str, proxy: str) -> None:
    proxies = Proxies(http="P", https="S", none=(".internal", "10.0.0.1", "::1", "host.example:8080"))
    assert proxies.proxy_for(url) == proxy
    assert Proxies(http="P", https="S", none=("*",)).proxy_for(url) == ""


def test_several_threads_share_connections(mirror: Mirror) -> None:
    downloads = Downloads()
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(downloads.get(f"{mirror.host}/file", max_bytes=10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [b"content"] * 8
