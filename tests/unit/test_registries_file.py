"""registries.toml: what it says, and that what is wrong in it is named."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.registry.registries_file import MAX_REPEATS, RegistriesFile, parse_registries
from onggi.registry.server_tables import MAX_BYTES
from onggi.registry.servers import Registry, plan_endpoints
from onggi.spec.reference import is_repository, parse_reference
from onggi.spec.registry import ClientCertificate

FILE = "/etc/onggi/registries.toml"


def parse(text: str, earlier: RegistriesFile | None = None) -> RegistriesFile:
    return parse_registries(text.encode(), FILE, earlier)


def found(text: str, name: str) -> str:
    """Give the mirror that is configured for a name, empty for none."""
    registry = parse(text).find(parse_reference(name))
    return registry.mirrors[0].url if registry else ""


def rewritten(rules: str, path: str) -> str:
    text = f'[registry."a.example.com"]\nrewrite = [{rules}]'
    reference = parse_reference(f"a.example.com/{path}")
    return plan_endpoints(parse(text).find(reference) or Registry(), reference)[0].repository


def result_of(action: Callable[[], str]) -> str:
    """Give what it gives, or the text of the error that is allowed."""
    try:
        return action()
    except InvalidArgument as error:
        return str(error)


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == RegistriesFile(default_registry="docker.io", registries={})
    assert parse("").find(parse_reference("ubuntu")) is None


def test_every_key_arrives() -> None:
    text = """
[registry."a.example.com"]
url = "https://b.example.com:5000"
capabilities = ["pull"]
insecure = true
plain-http = false
ca = ["ca.pem", "/absolute.pem"]
client = ["both.pem", ["certificate.pem", "/key.pem"], ["alone.pem", ""]]
header = {X-One = "1", X-Two = ["2", "3"]}
connect-timeout = "1m1.5s"

[[registry."a.example.com".mirrors]]
url = "https://m.example.com/root/"
insecure = false
plain-http = true
ca = "m.pem"
client = "m.pem"
connect-timeout = "250ms"
"""
    registry = parse(text).registries["a.example.com"]
    server, (mirror,) = registry.server, registry.mirrors
    assert server.url == "https://b.example.com:5000/v2"
    assert server.capabilities == ("pull",)
    assert (server.insecure, server.plain_http) == (True, False)
    assert server.ca_files == ("/etc/onggi/ca.pem", "/absolute.pem")
    assert server.client_certificates == (
        ClientCertificate(certificate="/etc/onggi/both.pem"),
        ClientCertificate(certificate="/etc/onggi/certificate.pem", key="/key.pem"),
        ClientCertificate(certificate="/etc/onggi/alone.pem"),
    )
    assert server.headers == (("X-One", "1"), ("X-Two", "2, 3"))
    assert server.connect_timeout_s == 61.5
    assert mirror.url == "https://m.example.com/root"
    assert mirror.capabilities == ("pull", "resolve")
    assert (mirror.insecure, mirror.plain_http) == (False, True)
    assert mirror.ca_files == ("/etc/onggi/m.pem",)
    assert mirror.client_certificates == (ClientCertificate(certificate="/etc/onggi/m.pem"),)
    assert mirror.connect_timeout_s == 0.25


def test_all_of_a_server_arrives_in_its_endpoints() -> None:
    text = """
[[registry."a.example.com".mirrors]]
url = "https://m.example.com"
insecure = true
plain-http = true
ca = "/ca"
client = "/c"
header = {A = "b"}
connect-timeout = "2s"
rewrite = [{prefix = "", to = "hub/"}]
"""
    reference = parse_reference("a.example.com/x")
    first, second, own = plan_endpoints(parse(text).registries["a.example.com"], reference)
    assert first.insecure
    assert first.ca_files == ("/ca",)
    assert first.client_certificates == (ClientCertificate(certificate="/c"),)
    assert first.headers == (("A", "b"),)
    assert first.connect_timeout_s == 2
    assert first.repository == "hub/x"
    assert second == msgspec.structs.replace(first, url="http://m.example.com/v2", fallback=True)
    assert (own.insecure, own.repository, own.headers) == (False, "x", ())


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("a.example.com/team/app/x", "https://3/v2"),
        ("a.example.com/team/app", "https://3/v2"),
        ("a.example.com/team/apple", "https://2/v2"),
        ("a.example.com/team", "https://2/v2"),
        ("a.example.com/teams", "https://1/v2"),
        ("A.Example.com:443/teams", "https://1/v2"),
        ("a.example.com:5000/team", "https://4/v2"),
        ("b.c.example.com/team", "https://5/v2"),
        ("b.example.com/team", "https://4/v2"),
        ("example.com/team", "https://0/v2"),
        ("ubuntu", "https://0/v2"),
    ],
)
def test_the_most_specific_entry_counts(name: str, mirror: str) -> None:
    keys = [
        "*",
        "A.example.com:443",
        "a.example.com/team",
        "a.example.com/team/app",
        "*.example.com",
        "*.c.example.com",
    ]
    text = "".join(f'[registry."{key}"]\nmirrors = ["https://{number}"]\n' for number, key in enumerate(keys))
    text += '[registry."a.example.com:5000"]\nmirrors = ["https://4"]\n'
    assert found(text, name) == mirror


def test_docker_io_has_two_names() -> None:
    assert found('[registry."index.docker.io"]\nmirrors = ["https://m"]', "ubuntu") == "https://m/v2"
    assert found('[registry."docker.io/library"]\nmirrors = ["https://m"]', "ubuntu") == "https://m/v2"


def test_a_later_file_goes_over_an_earlier_one_entry_by_entry() -> None:
    first = parse(
        'default-registry = "d.example.com"\n[registry."a.io"]\nblocked = true\n[registry."b.io"]\nblocked = true'
    )
    both = parse('[registry."b.io"]\ninsecure = true', first)
    assert both.default_registry == "d.example.com"
    assert (both.registries["a.io"].blocked, both.registries["b.io"].blocked) == (True, False)
    assert parse('default-registry = "docker.io"', first).default_registry == "docker.io"


# -- rewrites --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "path", "new"),
    [
        ('{prefix = "", to = "hub/"}', "a/b", "hub/a/b"),
        ('{prefix = "a/", to = ""}', "a/b", "b"),
        ('{prefix = "a.c/", to = "x/"}', "abc/d", "abc/d"),
        ('{prefix = "b/", to = "x/"}', "a/b", "a/b"),
        ("{match = '([a-z]+)/(.*)', to = '$2/$1'}", "ab/c/d", "c/d/ab"),
        ("{match = 'a', to = 'x'}", "ab", "ab"),
        (r"{match = 'v\d\.(\d?)(.*)', to = 'x$1'}", "v1.2", "x2"),
        (r"{match = 'v\d\.(\d?)(.*)', to = 'x$1'}", "v1.a", "x"),
        ("{match = '[^a]b', to = 'x'}, {prefix = 'c', to = 'y'}", "cb", "x"),
        ("{match = '[^c]b', to = 'x'}, {prefix = 'c', to = 'y'}", "cb", "yb"),
    ],
)
def test_the_first_rewrite_that_matches_counts(rules: str, path: str, new: str) -> None:
    assert rewritten(rules, path) == new


@pytest.mark.parametrize("to", ["/", "x//", "-", "x/."])
def test_a_rewrite_that_makes_no_repository_is_named(to: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f'{FILE}: registry."a.example.com": the rewrite of a is')):
        rewritten(f'{{match = "a", to = "{to}"}}', "a")


@pytest.mark.parametrize(
    "match",
    ["(a*)*", "(a+)+b", "(a)?", "a**", "a{9}", "a|b", r"\w", r"(a)\1", "(?:a)", "(?=a)", "^a", "((a))", "[a-", "é"],
)
def test_an_expression_that_could_run_away_is_refused(match: str) -> None:
    with pytest.raises(InvalidArgument, match="is not of the form"):
        rewritten(f"{{match = '{match}', to = 'x'}}", "a")


def test_repeats_are_counted() -> None:
    assert rewritten(f"{{match = '{'.*' * MAX_REPEATS}', to = 'x'}}", "a") == "x"
    with pytest.raises(InvalidArgument, match="at most 3"):
        rewritten(f"{{match = '{'.*' * MAX_REPEATS}a?', to = 'x'}}", "a")


@given(
    st.text("ab.*+?()[]^-/\\d", max_size=12),
    st.text("a$12/", max_size=4),
    st.from_regex(r"[a-b/]{1,9}", fullmatch=True),
)
@example("[b-a]", "x", "a")
def test_a_rewrite_gives_a_repository_or_an_error(match: str, to: str, path: str) -> None:
    if not is_repository(path):
        return
    rule = f"{{match = {msgspec.json.encode(match).decode()}, to = '{to}'}}"
    answer = result_of(lambda: rewritten(rule, path))
    assert is_repository(answer) or answer.startswith(f'{FILE}: registry."a.example.com"')


# -- what is wrong is named ------------------------------------------------------------------------

ENTRY = '[registry."a.io"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1", "unknown field `a`; known here: default-registry, registry"),
        ("registry = 3", "Expected `object`, got `int` - at `registry`"),
        ("x =\n\n", "line 1"),
        ("\n\nx = 1\nx = 2\ny = 3", "line 4"),
        ('default-registry = "docker"', "default-registry: 'docker' is not a host such as docker.io"),
        ('default-registry = "a.io/b"', "default-registry: 'a.io/b' is not a host"),
        ("[registry.docker.io]", 'registry.docker: not the name of a registry, which is quoted: [registry."'),
        ('[registry."a..io"]', 'registry."a..io": not the name of a registry'),
        ('[registry."../../etc"]', 'registry."../../etc": not the name of a registry'),
        ('[registry."a.io/"]', 'registry."a.io/": not the name of a registry'),
        ('[registry."a.io/A"]', 'registry."a.io/A": not the name of a registry'),
        ('[registry."*.a.io/b"]', 'registry."*.a.io/b": not the name of a registry'),
        ('[registry."*a.io"]', 'registry."*a.io": not the name of a registry'),
        ('[registry."a.io"]\n[registry."A.io:443"]', 'registry."A.io:443": a.io is there twice'),
        ('[registry]\n"a.io" = 3', 'registry."a.io": Expected `object`, got `int`'),
        (ENTRY + "mirror = 3", 'registry."a.io": Object contains unknown field `mirror`; known here: blocked, ca,'),
        (ENTRY + "insecure = 1", "Expected `bool`, got `int` - at `insecure`"),
        (ENTRY + "plain_http = true", "unknown field `plain_http`"),
        (ENTRY + 'ca = ["a", 1]', "at `ca[1]`"),
        (ENTRY + 'capabilities = ["fly"]', "Invalid enum value 'fly' - at `capabilities[0]`"),
        (ENTRY + 'client = [["a", "b", "c"]]', "client: ['a', 'b', 'c'] is not a pair of certificate and key"),
        (ENTRY + 'client = [["", "b"]]', "is not a pair of certificate and key"),
        (ENTRY + 'header = {Host = "a"}', "header: 'Host' cannot be set"),
        (ENTRY + 'header = {"a b" = "a"}', "header: 'a b' cannot be set"),
        (ENTRY + 'header = {a = "x\\r\\nHost: b"}', "header: the value of a has a line break"),
        (ENTRY + 'connect-timeout = "5"', "'5' is not a time such as 30s"),
        (ENTRY + 'connect-timeout = "0s"', "'0s' is not a time such as 30s"),
        (ENTRY + 'url = "b.io"', "'b.io' is not a URL such as https://"),
        (ENTRY + 'url = "ftp://b.io"', "is not a URL"),
        (ENTRY + 'url = "https://b.io/../v2"', "is not a URL"),
        (ENTRY + 'url = "https://b.io/v2?x=1"', "is not a URL"),
        (ENTRY + 'url = "https://b.io:70000"', "is not a URL"),
        (ENTRY + 'url = "https://b.io/v2\\n"', "is not a URL"),
        (ENTRY + "mirrors = [3]", 'registry."a.io".mirrors[0]: Expected `object`, got `int`'),
        (ENTRY + "mirrors = [{}]", 'registry."a.io".mirrors[0]: it has no url'),
        (ENTRY + 'mirrors = ["https://m", {url = "https://n", mirrors = []}]', ".mirrors[1]: Object contains unknown"),
        (ENTRY + 'mirrors = [{url = "https://m", capabilities = ["push"]}]', "nothing is pushed to a mirror"),
        (ENTRY + 'rewrite = [{to = "a"}]', ".rewrite[0]: give either prefix or match"),
        (ENTRY + 'rewrite = [{to = "a", prefix = "", match = ""}]', "give either prefix or match"),
        (ENTRY + 'rewrite = [{prefix = ""}]', "missing required field `to` - at `rewrite[0]`"),
        (ENTRY + 'rewrite = [{prefix = "", to = "A"}]', "to: 'A' is not a path"),
        (ENTRY + f'rewrite = [{{match = "{"a" * 256}", to = "b"}}]', "match: it is longer than a path"),
        (ENTRY + 'rewrite = [{match = "(a)", to = "$2"}]', "to: '$2' names a group that match does not have"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert str(caught.value).startswith(f"{FILE}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *(b"\xff", b"x = " + b"[" * 100_000, b"a." * 100_000 + b"a = 1", b'[registry."' + b"a" * 99_999),
        b"x = " + b"1" * 5000,
    ],
)
def test_hostile_bytes_get_a_sentence(text: bytes) -> None:
    assert len(text) <= MAX_BYTES
    with pytest.raises(InvalidArgument, match=re.escape(FILE)):
        parse_registries(text, FILE)


def test_a_long_line_is_read() -> None:
    mirrors = ", ".join(['"https://mirror.of.example.com"'] * 60)
    assert len(parse(ENTRY + f"mirrors = [{mirrors}]").registries["a.io"].mirrors) == 60
    with pytest.raises(InvalidArgument, match="line 2 has more than 200 dots; break it"):
        parse(ENTRY + f"mirrors = [{mirrors}, {mirrors}]")


def test_no_error_repeats_a_password() -> None:
    for text in ('mirrors = ["https://user:secret@m"]', 'url = "https://user:secret@m"', 'header = {A = "secret\\n"}'):
        with pytest.raises(InvalidArgument) as caught:
            parse(ENTRY + text)
        assert "secret" not in str(caught.value)


def test_no_repr_shows_a_header() -> None:
    registry = parse(ENTRY + 'header = {Authorization = "secret"}').registries["a.io"]
    (endpoint,) = plan_endpoints(registry, parse_reference("a.io/b"))
    assert endpoint.headers == (("Authorization", "secret"),)
    assert "secret" not in repr(endpoint) + repr(registry)


_values = st.recursive(st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2))


@given(
    st.dictionaries(st.sampled_from(["url", "ca", "client", "header", "mirrors", "rewrite", "blocked", "x"]), _values)
)
def test_any_table_is_read_or_refused(table: dict[str, Any]) -> None:
    lines = "".join(f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in table.items())
    assert result_of(lambda: repr(parse(ENTRY + lines))).startswith(("RegistriesFile(", FILE))


# -- the reference page ----------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/registries.md").read_text()


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("ubuntu", ["https://mirror.example.com/v2/library/ubuntu", "http://10.0.0.7:5000/v2/library/ubuntu"]),
        ("ghcr.io/owner/app", ["https://harbor.example.com/v2/ghcr/owner/app", "https://ghcr.io/v2/owner/app"]),
        ("registry.example.com:5000/old/a/b", ["https://archive.example.com/v2/b/a"]),
        ("registry.example.com:5000/old/a", ["https://archive.example.com/v2/a"]),
        ("lab.example.com/a", ["https://lab.example.com/v2/a", "http://lab.example.com/v2/a"]),
        ("q.io/a", ["https://cache.example.com/v2/a", "https://q.io/v2/a"]),
    ],
)
def test_the_example_of_the_page_does_what_it_says(name: str, places: list[str]) -> None:
    example_file = parse(PAGE.split("```toml\n")[1].split("```")[0])
    endpoints = plan_endpoints(example_file.find(parse_reference(name)) or Registry(), parse_reference(name))
    assert [f"{endpoint.url}/{endpoint.repository}" for endpoint in endpoints][: len(places)] == places


def test_the_page_has_every_key() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(ENTRY + "x = 1")
    for key in str(caught.value).partition("known here: ")[2].split(", "):
        assert f"\n| `{key}` |" in PAGE
