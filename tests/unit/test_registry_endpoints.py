"""Which servers are tried for a reference, by what is configured for its registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument, PermissionDenied
from onggi.registry.registries_file import parse_registries
from onggi.registry.servers import Registry, Server, is_host, is_loopback, plan_endpoints, without_trust
from onggi.spec.reference import Reference, is_domain, parse_reference
from onggi.spec.registry import EVERYTHING, Endpoint

FILE = "/etc/onggi/registries.toml"


def endpoints(name: str, text: str = "") -> tuple[Endpoint, ...]:
    reference = parse_reference(name)
    return plan_endpoints(parse_registries(text.encode(), FILE).find(reference) or Registry(), reference)


def urls(name: str, text: str = "") -> list[str]:
    return [f"{endpoint.url}/{endpoint.repository}" for endpoint in endpoints(name, text)]


# -- without configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url", "host"),
    [
        ("ubuntu", "https://registry-1.docker.io/v2/library/ubuntu", "docker.io"),
        ("docker.io/a/b:1", "https://registry-1.docker.io/v2/a/b", "docker.io"),
        ("index.docker.io/a/b", "https://registry-1.docker.io/v2/a/b", "docker.io"),
        ("quay.io/a/b/c", "https://quay.io/v2/a/b/c", "quay.io"),
        ("Quay.IO/a", "https://quay.io/v2/a", "quay.io"),
        ("quay.io:443/a", "https://quay.io:443/v2/a", "quay.io:443"),
        ("[2001:DB8::1]:5000/a", "https://[2001:db8::1]:5000/v2/a", "[2001:db8::1]:5000"),
        ("10.0.0.1/a", "https://10.0.0.1/v2/a", "10.0.0.1"),
    ],
)
def test_a_registry_is_at_its_own_name_and_nowhere_else(name: str, url: str, host: str) -> None:
    (endpoint,) = endpoints(name)
    assert (f"{endpoint.url}/{endpoint.repository}", endpoint.host) == (url, host)
    assert (endpoint.insecure, endpoint.fallback, endpoint.namespace) == (False, False, "")
    assert endpoint.capabilities == EVERYTHING


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:80", "[::1]", "[::ffff:7f00:1]"]
)
def test_loopback_is_tried_with_tls_of_any_certificate_then_without(host: str) -> None:
    first, second = endpoints(f"{host}/a")
    assert (first.url, second.url) == (f"https://{host.lower()}/v2", f"http://{host.lower()}/v2")
    assert first.insecure
    assert (first.fallback, second.fallback) == (False, True)


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "localhost.example.com", "128.0.0.1", "127.1", "[::2]"])
def test_what_only_looks_like_loopback_gets_tls_alone(host: str) -> None:
    (endpoint,) = endpoints(f"{host}/a")
    assert endpoint.url.startswith("https:")
    assert not endpoint.insecure


@pytest.mark.parametrize(
    "domain", ["..", ".", "a/b", "a..b", "[::::]", "[12]", "a:0", "a:65536", "a:99999999999", "", "_default"]
)
def test_a_domain_that_is_no_host_is_refused(domain: str) -> None:
    assert not is_host(domain)
    with pytest.raises(InvalidArgument, match="is not a host"):
        plan_endpoints(Registry(), Reference(domain=domain, path="a"))


@given(
    st.text(st.sampled_from("a.:/[]-_1\x00\n "), max_size=12) | st.from_regex(r"[a-z0-9.:\[\]/]{0,12}", fullmatch=True)
)
def test_a_host_is_one_name_in_a_directory(text: str) -> None:
    if is_host(text):
        assert is_domain(text)
        assert not {"/", "\x00", "\n"} & set(text)
        assert text not in (".", "..")
    is_loopback(text)


# -- mirrors and the registry itself ---------------------------------------------------------------

MIRRORS = """
[registry."docker.io"]
mirrors = ["https://one.example.com", {url = "http://two.example.com:80/v2/hub/", capabilities = ["pull"]}]
"""


def test_mirrors_come_first_in_their_order_and_the_registry_last() -> None:
    one, two, hub = endpoints("ubuntu", MIRRORS)
    assert [endpoint.url for endpoint in (one, two, hub)] == [
        "https://one.example.com/v2",
        "http://two.example.com:80/v2/hub",
        "https://registry-1.docker.io/v2",
    ]
    assert [endpoint.capabilities for endpoint in (one, two, hub)] == [("pull", "resolve"), ("pull",), EVERYTHING]
    assert [endpoint.host for endpoint in (one, two, hub)] == ["one.example.com", "two.example.com:80", "docker.io"]
    assert [endpoint.namespace for endpoint in (one, two, hub)] == ["docker.io", "docker.io", ""]


def test_a_url_with_http_is_never_tried_with_tls() -> None:
    assert urls("a.io/b", '[registry."a.io"]\nurl = "http://c.io"\nplain-http = true') == ["http://c.io/v2/b"]


def test_a_blocked_registry_says_who_blocks_it() -> None:
    with pytest.raises(
        PermissionDenied, match=r'docker.io/library/ubuntu: /etc/onggi/registries.toml: registry."docker'
    ):
        endpoints("ubuntu", '[registry."docker.io"]\nblocked = true')
    assert urls("quay.io/a", '[registry."docker.io"]\nblocked = true') == ["https://quay.io/v2/a"]


@given(st.lists(st.booleans(), max_size=5), st.booleans(), st.sampled_from(["a.example.com", "localhost:5000"]))
def test_a_fallback_follows_its_own_https(plain: list[bool], own: bool, domain: str) -> None:
    mirrors = tuple(
        Server(url=f"https://m{number}.example.com/v2", plain_http=allowed) for number, allowed in enumerate(plain)
    )
    found = plan_endpoints(Registry(mirrors=mirrors, server=Server(plain_http=own)), Reference(domain=domain, path="a"))
    assert len(found) == len(plain) + sum(plain) + 1 + own
    for before, endpoint in zip((None, *found), found, strict=False):
        assert endpoint.fallback == endpoint.url.startswith("http:")
        if endpoint.fallback:
            assert before is not None
            assert before.url == endpoint.url.replace("http:", "https:")


def test_who_asks_for_no_proof_gets_any_certificate_and_else_plain_http() -> None:
    first, second = without_trust(endpoints("quay.io/a"))
    assert (first.url, first.insecure, first.fallback) == ("https://quay.io/v2", True, False)
    assert (second.url, second.fallback) == ("http://quay.io/v2", True)
    assert len(without_trust(endpoints("localhost/a"))) == 2
    (plain,) = without_trust(endpoints("quay.io/a", '[registry."quay.io"]\nurl = "http://quay.io/v2"\n'))
    assert plain.url == "http://quay.io/v2"
