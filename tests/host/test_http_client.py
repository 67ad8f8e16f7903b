"""HTTP for registries, from a server on loopback that may be hostile: what is followed, tried again, bounded, told."""

import gzip
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from onggi.base.errors import Cancelled, Corrupt, FailedPrecondition, InvalidArgument, OnggiError, Unavailable
from onggi.host.http import Downloads, Proxies
from onggi.host.http_client import ATTEMPTS, MAX_PAUSE_S, Body, Client, Trust, Unreachable, redirected, shown
from onggi.spec.challenge import MAX_ERROR_BYTES
from onggi.spec.registry import ClientCertificate
from tests.certificates import Authority, openssl
from tests.registry_server import Call, Registry, answer, cut, endless, held, redirect, status

SECRET = "s3cret-value"
PRIVATE = (("Authorization", f"Bearer {SECRET}"), ("X-Key", SECRET), ("Accept", "text/x"), ("Range", "bytes=0-"))


class Pauses(list[float]):
    """Where time is only written down."""

    def __call__(self, seconds: float) -> None:
        """Note a pause."""
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(pauses: Pauses) -> Iterator[Client]:
    client = Client(pause=pauses, jitter=lambda: 0.5)
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as server:
        server.fault("GET", "^/honest", answer(200, b"content"))
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def get(client: Client, url: str, max_bytes: int = 100, **options: Any) -> bytes:
    with client.send("GET", url, **options) as response:
        assert response.status == 200
        return response.read(max_bytes, "it")


# -- plain -------------------------------------------------------------------------------------------------------------


def test_methods_headers_and_bodies(server: Registry, client: Client) -> None:
    server.fault("", "^/x", answer(202, b"body", Location="/y", X_Of="a"))
    with client.send("PATCH", f"{server.url}/x?a=b", headers=(("X-Mine", "1"),), body=b"sent") as response:
        assert (response.status, response.header("x-of"), response.header("no")) == (202, "a", "")
        assert response.read(4, "it") == b"body"
    asked = server.asked[-1]
    assert (asked.method, asked.query, asked.body, asked.headers["x-mine"]) == ("PATCH", {"a": ["b"]}, b"sent", "1")


def test_a_body_is_streamed_with_its_length(server: Registry, client: Client) -> None:
    server.fault("PUT", "", answer(201))
    with client.send("PUT", server.url, body=Body(size=6, open=lambda: iter([b"abc", b"def"]))) as response:
        assert response.status == 201
    assert (server.asked[-1].body, server.asked[-1].headers["content-length"]) == (b"abcdef", "6")
    assert "transfer-encoding" not in server.asked[-1].headers


def test_what_is_encoded_stays_so(server: Registry, client: Client) -> None:
    packed = gzip.compress(b"content")
    server.fault("GET", "^/packed", answer(200, packed, Content_Encoding="gzip"))
    assert get(client, f"{server.url}/packed") == packed
    assert server.asked[-1].headers["accept-encoding"] == "identity"


def test_a_connection_is_used_again(server: Registry, client: Client) -> None:
    ports = []

    def note(call: Call) -> None:
        ports.append(call.handler.client_address[1])
        call.reply(200, b"abc")

    server.fault("", "^/note", note)
    for method in ("GET", "HEAD", "GET"):
        with client.send(method, f"{server.url}/note") as response:
            response.read(10, "it")
    assert len(ports) == 3
    assert len(set(ports)) == 1


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_headers_stay_with_the_origin(server: Registry, client: Client) -> None:
    with Registry() as other:
        other.fault("GET", "", answer(200, b"there"))
        server.fault("GET", "^/away", redirect(f"{other.url}/blob?signature=1"))
        server.fault("GET", "^/here", redirect("/honest"))
        assert get(client, f"{server.url}/away", headers=PRIVATE) == b"there"
        assert get(client, f"{server.url}/here", headers=PRIVATE) == b"content"
    (away,) = other.asked
    assert SECRET not in str(away)
    assert (away.headers["accept"], away.headers["range"]) == ("text/x", "bytes=0-")
    assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert server.asked[-1].headers["x-key"] == SECRET


def test_headers_do_not_come_back_either(server: Registry, client: Client) -> None:
    with Registry() as other:
        other.fault("GET", "", redirect(f"{server.url}/honest"))
        server.fault("GET", "^/away", redirect(other.url))
        assert get(client, f"{server.url}/away", headers=PRIVATE) == b"content"
    assert SECRET not in str(server.asked[-1])


def test_circles_and_long_ways_end(server: Registry, client: Client) -> None:
    server.fault("GET", "^/circle", redirect("/circle"))
    with pytest.raises(Unavailable, match="redirects in a circle"):
        get(client, f"{server.url}/circle")
    assert len(server.lines("circle")) == 1

    def further(call: Call) -> None:
        redirect(f"{call.asked.path}x")(call)

    server.fault("GET", "^/further", further)
    with pytest.raises(Unavailable, match="more than 5 times"):
        get(client, f"{server.url}/further")
    assert len(server.lines("further")) == 6


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "//[",
        "http://a b/",
        "gopher://x/",
        "http://h:0/",
        r"http://h\@127.0.0.1/",
    ],
)
def test_redirects_lead_to_http_only(server: Registry, client: Client, url: str) -> None:
    server.fault("GET", "^/x", redirect(url))
    with pytest.raises(OnggiError, match=r"refused|no URL"):
        get(client, f"{server.url}/x")
    assert len(server.asked) == 1


def test_https_does_not_become_http() -> None:
    with pytest.raises(Unavailable, match=r"redirects from https to http://r.example/x, which is refused"):
        redirected("https://r.example/", "http://r.example/x?secret=1")
    assert redirected("http://r.example/", "https://u:p@r.example/x#y") == "https://r.example/x"


def test_what_is_sent_does_not_go_elsewhere(server: Registry, client: Client) -> None:
    with Registry() as other:
        server.fault("POST", "", redirect(other.url))
        with pytest.raises(Unavailable, match="sends what we send on"):
            client.send("POST", server.url, body=b"password=1")
    assert other.asked == []


def test_a_post_is_not_sent_again_as_something_else(server: Registry, client: Client) -> None:
    server.fault("POST", "", redirect("/honest", 302))
    with client.send("POST", server.url, body=b"x") as response:
        assert response.status == 302


# -- again -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_what_passes_is_tried_again_later_each_time(
    server: Registry, client: Client, pauses: Pauses, code: int
) -> None:
    server.fault("GET", "^/x", status(code), times=3)
    server.fault("GET", "^/x", answer(200, b"content"))
    assert get(client, f"{server.url}/x") == b"content"
    assert pauses == [0.375, 0.75, 1.5]


def test_what_stays_is_answered(server: Registry, client: Client, pauses: Pauses) -> None:
    server.fault("GET", "^/x", status(503))
    with client.send("GET", f"{server.url}/x") as response:
        assert response.status == 503
        assert b"errors" in response.error_body()
    assert len(server.asked) == ATTEMPTS == len(pauses) + 1


def test_other_refusals_are_not_tried_again(server: Registry, client: Client) -> None:
    server.fault("GET", "^/x", status(404))
    with client.send("GET", f"{server.url}/x") as response:
        assert response.said == "404 Not Found"
    assert len(server.asked) == 1


def test_a_server_says_how_long_to_wait(server: Registry, client: Client, pauses: Pauses) -> None:
    server.fault("GET", "^/x", status(429, Retry_After="7"), times=1)
    server.fault("GET", "^/x", status(429, Retry_After="soon"), times=1)
    server.fault("GET", "^/x", answer(200))
    get(client, f"{server.url}/x")
    assert pauses == [7.0, 0.75]


def test_nobody_waits_for_hours(server: Registry, client: Client, pauses: Pauses) -> None:
    server.fault("GET", "^/x", status(429, Retry_After=str(int(MAX_PAUSE_S) + 1)))
    with client.send("GET", f"{server.url}/x") as response:
        assert response.status == 429
    assert (pauses, len(server.asked)) == ([], 1)


def test_broken_connections_are_tried_again(server: Registry, client: Client) -> None:
    server.fault("POST", "^/x", cut(), times=2)
    server.fault("POST", "^/x", answer(200))
    pieces = []

    def pieces_again() -> Iterator[bytes]:
        pieces.append(1)
        yield b"abc"

    with client.send("POST", f"{server.url}/x", body=Body(size=3, open=pieces_again)) as response:
        assert response.status == 200
    assert (len(pieces), server.asked[-1].body) == (3, b"abc")


def test_broken_connections_are_told_in_the_end(server: Registry, client: Client) -> None:
    server.fault("GET", "", cut())
    with pytest.raises(Unavailable, match=r"http://127.0.0.1:\d+/x cannot be asked: .*closed connection") as caught:
        get(client, f"{server.url}/x?token={SECRET}")
    assert SECRET not in str(caught.value)
    assert len(server.asked) == ATTEMPTS


def test_nobody_there_is_not_tried_again(client: Client, pauses: Pauses) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match=r"cannot be reached: .*Connection refused"):
        get(client, f"http://127.0.0.1:{port}/x")
    with pytest.raises(Unreachable, match="cannot be reached"):
        get(client, "http://name.invalid/x")
    assert pauses == []


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_body_is_bounded(server: Registry, client: Client) -> None:
    server.fault("GET", "", endless())
    with pytest.raises(Corrupt, match="more than the 1000 bytes"):
        get(client, server.url, max_bytes=1000)


def test_an_error_body_is_bounded(server: Registry, client: Client) -> None:
    server.fault("GET", "", endless())
    with client.send("GET", server.url) as response:
        assert len(response.error_body()) == MAX_ERROR_BYTES


def test_a_short_body_is_an_error(server: Registry, client: Client) -> None:
    server.fault("GET", "", answer(200, b"abc", Content_Length="10"))
    with pytest.raises(Unavailable, match="the connection broke"):
        get(client, server.url)


@pytest.mark.parametrize(
    "head", [b"X: " + b"x" * 70000, b"\r\n".join(b"X%d: x" % number for number in range(200))], ids=["long", "many"]
)
def test_headers_are_bounded(server: Registry, client: Client, head: bytes) -> None:
    def fault(call: Call) -> None:
        call.close()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + head + b"\r\n\r\n")

    server.fault("GET", "", fault)
    with pytest.raises(Unavailable):
        get(client, server.url, attempts=1)


@pytest.mark.parametrize("raw", [b"\0\1\2 nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b""])
def test_what_is_no_http_is_an_error(server: Registry, client: Client, raw: bytes) -> None:
    def fault(call: Call) -> None:
        call.close()
        call.write(raw)

    server.fault("GET", "", fault)
    with suppress(Unavailable):  # and nothing else
        assert get(client, server.url, attempts=1) == b""


@pytest.mark.parametrize("size", [b"-1", b"-5", b"-0xff"])
def test_a_chunk_of_negative_size_is_not_read_for_ever(server: Registry, client: Client, size: bytes) -> None:
    sent = 0

    def fault(call: Call) -> None:
        nonlocal sent
        call.close()
        call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        while not server.ended.is_set() and sent < 64 << 20:
            call.write(b"x" * 65536)
            sent += 65536

    server.fault("GET", "", fault)
    with pytest.raises(Unavailable, match="the connection broke"):
        get(client, server.url)
    with pytest.raises(Unavailable):
        Downloads().get(server.url, max_bytes=100)
    assert sent < 64 << 20


# -- stopping ----------------------------------------------------------------------------------------------------------


def stopped_while(client: Client, url: str, ready: threading.Event, max_bytes: int = 1 << 40) -> BaseException | None:
    """Ask in a thread, stop once `ready`, and give what the thread raised."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            get(client, url, max_bytes=max_bytes)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert ready.wait(20)
    client.stop()
    thread.join(20)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_waiting_for_an_answer_can_be_stopped(server: Registry, client: Client) -> None:
    ready = threading.Event()

    def fault(call: Call) -> None:
        ready.set()
        held(threading.Event())(call)

    server.fault("GET", "", fault)
    assert isinstance(stopped_while(client, server.url, ready), Cancelled)
    with pytest.raises(Cancelled):
        get(client, f"{server.url}/honest")


def test_a_body_can_be_stopped(server: Registry, client: Client) -> None:
    ready = threading.Event()

    def fault(call: Call) -> None:
        call.close()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        ready.set()
        held(threading.Event())(call)

    server.fault("GET", "", fault)
    assert isinstance(stopped_while(client, server.url, ready), Cancelled)


def test_a_pause_can_be_stopped(server: Registry) -> None:
    client, ready = Client(), threading.Event()

    def fault(call: Call) -> None:
        status(429, Retry_After="60")(call)
        ready.set()

    server.fault("GET", "", fault)
    assert isinstance(stopped_while(client, server.url, ready), Cancelled)
    client.close()


def test_a_sibling_goes_on(server: Registry, client: Client) -> None:
    client.stop()
    sibling = client.sibling(timeout_s=5)
    assert get(sibling, f"{server.url}/honest") == b"content"
    sibling.close()


# -- proxies -----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_asked_with_its_own_password_only(server: Registry) -> None:
    server.fault("GET", "^/x", answer(200, b"hi"))
    proxy = f"http://user:{SECRET}@{server.host}"
    client = Client(Proxies(http=proxy))
    assert get(client, "http://elsewhere.example/x") == b"hi"
    assert server.asked[-1].headers["proxy-authorization"].startswith("Basic ")
    assert get(client, f"{server.url}/honest") == b"content"  # this machine is asked itself
    assert "proxy-authorization" not in server.asked[-1].headers
    client.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_told_without_its_password(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    proxy = f"http://user:{SECRET}@127.0.0.1:{port}"
    client = Client(Proxies(http=proxy, https=proxy))
    with pytest.raises(Unreachable, match="the proxy") as caught:
        get(client, f"{scheme}://elsewhere.example/x")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["socks5://{}@p.example:1", "http://{}@[", "http://{}@p.example:99999", "ftp://{}@p/"])
def test_what_is_no_proxy_is_told_without_its_password(client: Client, url: str) -> None:
    proxies = Proxies(http=url.format(f"user:{SECRET}"))
    with pytest.raises(InvalidArgument, match=r"a proxy is http://") as caught:
        get(Client(proxies), "http://elsewhere.example/x")
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidArgument, match=r"a proxy is http://"):
        Downloads(proxies).get("http://elsewhere.example/x", max_bytes=1)


def test_a_proxy_without_scheme_and_a_password_of_any_letters(server: Registry) -> None:
    server.fault("GET", "^/x", answer(200, b"hi"))
    client = Client(Proxies(http=f"user:p%20a€@{server.host}"))
    assert get(client, "http://elsewhere.example/x") == b"hi"
    assert server.asked[-1].headers["proxy-authorization"] == f"Basic {b64encode('user:p a€'.encode()).decode()}"
    client.close()


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_authorities_beside_the_hosts(authority: Authority, client: Client, pauses: Pauses) -> None:
    with Registry(certificate=authority.issue("server")) as server:
        server.fault("GET", "", answer(200, b"content"))
        with pytest.raises(Unavailable, match=r"its certificate cannot be verified: .*local issuer"):
            get(client, server.url)
        assert pauses == []  # it does not become true by asking again
        assert get(client, server.url, trust=Trust(ca_files=(str(authority.ca),))) == b"content"


def test_insecure_is_for_one_server(authority: Authority, client: Client) -> None:
    certificate = authority.issue("insecure")
    with Registry(certificate=certificate) as server, Registry(certificate=certificate) as other:
        server.fault("GET", "^/here", answer(200, b"content"))
        server.fault("GET", "^/away", redirect(other.url.replace("127.0.0.1", "localhost")))
        trust = Trust(name="127.0.0.1", insecure=True)
        assert get(client, f"{server.url}/here", trust=trust) == b"content"
        with pytest.raises(Unavailable, match=r"localhost.*cannot be verified"):
            get(client, f"{server.url}/away", trust=trust)
        assert other.asked == []


def test_a_client_certificate_is_shown(authority: Authority, client: Client) -> None:
    pair = ClientCertificate(certificate=str(authority.issue("client")))
    trust = Trust(name="127.0.0.1", ca_files=(str(authority.ca),))
    with Registry(certificate=authority.issue("strict"), client_ca=authority.ca) as server:
        server.fault("GET", "", answer(200, b"content"))
        with pytest.raises(Unavailable):
            get(client, server.url, trust=trust, attempts=1)
        shown_trust = Trust(name="127.0.0.1", ca_files=trust.ca_files, client_certificates=(pair,))
        assert get(client, server.url, trust=shown_trust) == b"content"
        with pytest.raises(Unavailable):  # the same server under another name is another server
            get(client, server.url.replace("127.0.0.1", "localhost"), trust=shown_trust, attempts=1)


def test_a_wrong_name_is_refused(authority: Authority, client: Client) -> None:
    with Registry(certificate=authority.issue("named")) as server:
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        with socket.create_server(("127.0.0.2", 0)):
            pass
        with pytest.raises(Unavailable):
            get(client, url, trust=Trust(ca_files=(str(authority.ca),)))


def test_plain_http_where_tls_was_expected(server: Registry, client: Client) -> None:
    with pytest.raises(Unavailable, match="the server gave HTTP response to HTTPS client"):
        get(client, server.url.replace("http:", "https:"), attempts=1)


@pytest.mark.parametrize("what", ["missing", "nonsense", "locked"])
def test_certificates_that_cannot_be_used(tmp_path: Path, authority: Authority, client: Client, what: str) -> None:
    path = tmp_path / "file.pem"
    pair: tuple[ClientCertificate, ...] = ()
    if what == "nonsense":
        path.write_text("nonsense")
    if what == "locked":  # nobody asks for its password on the terminal
        both = authority.issue("locked")
        locked = tmp_path / "locked.key"
        openssl("ec", "-in", both, "-aes128", "-passout", "pass:x", "-out", locked)
        path.write_bytes(authority.ca.read_bytes())
        pair = (ClientCertificate(certificate=str(both.with_suffix(".crt")), key=str(locked)),)
    trust = Trust(ca_files=(str(path),), client_certificates=pair, name="127.0.0.1")
    with pytest.raises(FailedPrecondition, match=r"certificates for 127.0.0.1: .* cannot be used"):
        client.send("GET", "https://127.0.0.1:1/", trust=trust)


def test_urls_are_shown_without_secrets() -> None:
    assert shown(f"https://u:{SECRET}@r.example/v2/x?sig={SECRET}#{SECRET}") == "https://r.example/v2/x"
    assert shown("http://[") == "a URL"
