"""What is in files of credentials: keys, namespaces, helpers, and edits that keep what others wrote."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.registry.credential_file import (
    HUB_KEY,
    MAX_BYTES,
    CredentialFile,
    Helper,
    decode_auth,
    encode_auth,
    key_of,
    registry_of,
)
from onggi.spec.registry import Credential

AUTH = "bWU6cHc="  # me:pw
ME = Credential(username="me", password="pw")


def file_of(document: object) -> CredentialFile:
    return CredentialFile("/home/me/config.json", json.dumps(document).encode())


def find(auths: object, host: str, repository: str = "") -> Credential | None:
    return file_of({"auths": auths}).find(host, repository)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("quay.io", "quay.io"),
        ("quay.io:5000", "quay.io:5000"),
        ("https://quay.io", "quay.io"),
        ("http://quay.io/v1/", "quay.io"),
        ("https://quay.io:5000/v2/", "quay.io:5000"),
        (HUB_KEY, "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://registry-1.docker.io/v2/", "docker.io"),
        ("[::1]:5000", "[::1]:5000"),
        ("https://Quay.IO/v1/", "quay.io"),
        ("Quay.io", "quay.io"),
    ],
)
def test_a_key_is_of_its_host_only(key: str, host: str) -> None:
    assert find({key: {"auth": AUTH}}, host, "some/repository") == ME
    for other in ("quay.io.example", "io", "quay.io:5001", "example/quay.io", "docker.io.example"):
        assert find({key: {"auth": AUTH}}, other) is None


def test_a_port_is_part_of_a_host() -> None:
    assert find({"quay.io:5000": {"auth": AUTH}}, "quay.io") is None
    assert find({"quay.io": {"auth": AUTH}}, "quay.io:5000") is None


def user_of(name: str) -> dict[str, str]:
    return {"username": name, "password": "x"}


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("org/repo", "repo"),
        ("org/repo/deeper", "repo"),
        ("org/repository", "org"),
        ("org", "org"),
        ("organic/repo", "all"),
        ("", "all"),
    ],
)
def test_the_longest_namespace_wins_whatever_the_order(repository: str, user: str) -> None:
    entries = {"quay.io": user_of("all"), "quay.io/org/repo": user_of("repo"), "quay.io/org/": user_of("org")}
    for auths in (entries, dict(reversed(entries.items()))):
        found = find(auths, "quay.io", repository)
        assert found is not None
        assert found.username == user


def test_docker_hub_has_namespaces_too() -> None:
    auths = {HUB_KEY: user_of("all"), "docker.io/library": user_of("library")}
    found = find(auths, "docker.io", "library/ubuntu")
    assert found is not None
    assert found.username == "library"


def test_the_key_that_docker_writes_comes_before_older_ones() -> None:
    old, new = {"https://quay.io/v1/": user_of("old")}, {"quay.io": user_of("new")}
    for auths in ({**old, **new}, {**new, **old}):
        found = find(auths, "quay.io")
        assert found is not None
        assert found.username == "new"
    hub = find({"docker.io": user_of("podman"), "index.docker.io": user_of("x"), HUB_KEY: user_of("me")}, "docker.io")
    assert hub is not None
    assert hub.username == "me"


def test_every_kind_of_secret_is_read() -> None:
    assert find({"a": {"username": "u", "password": "p"}}, "a") == Credential(username="u", password="p")
    assert find({"a": {"username": "u", "password": "p", "auth": AUTH}}, "a") == ME
    token = find({"a": {"auth": "bWU6", "identitytoken": "t"}}, "a")
    assert token == Credential(username="me", identity_token="t")
    assert find({"a": {"registrytoken": "t"}}, "a") == Credential(registry_token="t")


@pytest.mark.parametrize("entry", [{}, None, {"auth": ""}, {"auth": None}, {"email": "me@example.com"}])
def test_an_empty_entry_is_nothing(entry: object) -> None:
    assert find({"a": entry}, "a") is None
    assert find({"a/b": entry, "a": {"auth": AUTH}}, "a", "b") == ME


def test_helpers_of_a_registry_come_before_that_of_all() -> None:
    file = file_of({"credsStore": "all", "credHelpers": {"quay.io": "own", "https://gcr.io": "gcr", "plain.io": ""}})
    assert file.helper_of("quay.io") == Helper(name="own", server="quay.io")
    assert file.helper_of("gcr.io") == Helper(name="gcr", server="https://gcr.io")
    assert file.helper_of("ghcr.io") == Helper(name="all", server="ghcr.io")
    assert file.helper_of("docker.io") == Helper(name="all", server=HUB_KEY)
    assert file.helper_of("plain.io") is None
    assert file_of({"credHelpers": {"docker.io": "own"}}).helper_of("docker.io") == Helper(
        name="own", server="docker.io"
    )
    assert file_of({"credsStore": ""}).helper_of("quay.io") is None


def test_an_edit_keeps_everything_else_as_it_is_written() -> None:
    data = (
        b'{"HttpHeaders": {"X": "\\u00e9"}, "big": 123456789012345678901234567890, "e": 1.50e3, "zero": -0.0,'
        b'"auths": {"b": {"auth": "QUJD", "more": [1]}, "a": {"email": "x@y", "auth": "old", "password": "old"}}}'
    )
    written = CredentialFile("/c", data).with_credential("a", ME)
    for kept in (b"123456789012345678901234567890", b"1.50e3", b"-0.0", b"\\u00e9"):
        assert kept in written
    document = json.loads(written)
    assert document["auths"]["b"] == {"auth": "QUJD", "more": [1]}
    assert document["auths"]["a"] == {"email": "x@y", "auth": AUTH}
    assert list(document) == ["HttpHeaders", "big", "e", "zero", "auths"]
    gone = json.loads(CredentialFile("/c", written).without("a"))
    del document["auths"]["a"]
    assert gone == document


@pytest.mark.parametrize("data", [b"", b" \n", b"{}", b'{"auths":null}', b'{"auths":{"quay.io":null}}'])
def test_the_first_credential_of_a_file(data: bytes) -> None:
    written = CredentialFile("/c", data).with_credential("quay.io", ME)
    assert written == b'{\n\t"auths": {\n\t\t"quay.io": {\n\t\t\t"auth": "bWU6cHc="\n\t\t}\n\t}\n}'


def test_a_credential_is_taken_out_of_all_its_keys_and_no_others() -> None:
    auths = {name: {"auth": AUTH} for name in ("a", "http://a", "https://a/v1/", "a/namespace", "a:5000", "b")}
    file = file_of({"auths": auths})
    assert file.has("a")
    assert not file.has("c")
    assert list(json.loads(file.without("a"))["auths"]) == ["a/namespace", "a:5000", "b"]


SECRET = "c2VjcmV0"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"auths": 5}', "auths: expected object, got integer"),
        (b'{"auths": {"a": {"auth": ["' + SECRET.encode() + b'"]}}}', "auth: expected string, got array"),
        (b'{"auths": {"a": {"auth": "' + SECRET.encode(), "not valid JSON"),
        (b'["' + SECRET.encode() + b'"]', "expected object, got array"),
        (b'{"credHelpers": {"a": 1}}', "expected string, got integer"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{", "not valid JSON"),
        (b'{"what we skip \xff": 1}', "not valid JSON"),
        (b'{"x": "' + b"a" * MAX_BYTES + b'"}', "are more than the"),
    ],
)
def test_a_broken_file_is_named_and_not_shown(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        CredentialFile("/home/me/config.json", data)
    assert str(raised.value).startswith("/home/me/config.json: ")
    assert problem in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "auth", [f"{SECRET}*", f"{SECRET}=", "c2VjcmV0", "OnNlY3JldA==", "c2Vj\u00e9"], ids=range(5)
)  # the last but two: no colon, no user
def test_a_broken_auth_is_named_and_not_shown(auth: str) -> None:
    file = file_of({"auths": {"a": {"auth": auth}, "b": {"auth": AUTH}}})
    assert file.find("b") == ME
    with pytest.raises(InvalidArgument, match=r"^/home/me/config\.json: auths\[a\]\.auth: not ") as raised:
        file.find("a")
    assert auth not in str(raised.value)
    assert "secret" not in str(raised.value)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(username=st.text(st.characters(codec="utf-8", exclude_characters=":\0"), min_size=1), password=texts)
def test_an_auth_field_holds_any_name_and_password(username: str, password: str) -> None:
    auth = encode_auth(Credential(username=username, password=password))
    assert decode_auth(auth) == (username, password)
    folded = "\r\n".join(auth[at : at + 7] for at in range(0, len(auth), 7))
    assert decode_auth(folded) == (username, password)


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_any_auth_field_is_read_or_refused(auth: str) -> None:
    problem = ""
    try:
        username, _ = decode_auth(auth)
    except InvalidArgument as error:
        username, problem = "", str(error)
    assert problem in ("", "not valid base64", "not the base64 of USER:PASSWORD")
    assert bool(username) != bool(problem)
    assert ":" not in username


@pytest.mark.parametrize("auth", ["bWU6*cHc=", "bWU6 cHc=", "bWU6cHc", "bWU6cHc=="])
def test_what_go_does_not_decode_is_not_decoded(auth: str) -> None:
    with pytest.raises(InvalidArgument, match="not valid base64"):
        decode_auth(auth)


def test_bytes_that_are_no_text_survive() -> None:
    assert encode_auth(Credential(username="u", password=b"\xff".decode("utf-8", "surrogateescape"))) == "dTr/"
    assert decode_auth("dTr/")[1].encode("utf-8", "surrogateescape") == b"\xff"


def test_a_name_with_a_colon_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="colon"):
        encode_auth(Credential(username="a:b", password="secret"))


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_what_is_written_is_found_again(host: str, password: str) -> None:
    """Whatever the user called the registry."""
    server = registry_of(host)
    credential = Credential(username="me", password=password.strip("\0"))
    written = CredentialFile("/c", b"").with_credential(server, credential)
    assert CredentialFile("/c", written).has(registry_of(key_of(server)))
    if server == registry_of(server):
        assert CredentialFile("/c", written).find(server) == credential


def test_no_secret_is_in_a_repr() -> None:
    secret = Credential(username="me", password="s1", identity_token="s2", registry_token="s3")
    assert repr(secret) == str(secret) == "Credential(username='me')"
    assert "s1" not in f"{[secret]!r}"
