"""Names of images mean what they mean to Docker, and refusals read as Docker's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.spec.digest import Digest
from onggi.spec.reference import Reference, parse_reference

HEX = "ea8a54fd13889d3649d0a4e45735116474b8a650815a2cda4940f652158579b9"
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("ubuntu:24.04", "docker.io/library/ubuntu:24.04", "ubuntu:24.04"),
        ("library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("index.docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("index.docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("docker.io/my.org/app", "docker.io/my.org/app", "docker.io/my.org/app"),
        (f"docker.io/library/{HEX}", f"docker.io/library/{HEX}", f"library/{HEX}"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("quay.io/a/b/c", "quay.io/a/b/c", "quay.io/a/b/c"),
        ("ghcr.io/app", "ghcr.io/app", "ghcr.io/app"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("Host/app", "Host/app", "Host/app"),
        ("a.b/c__d/e-_.f".replace("-_.", "---"), "a.b/c__d/e---f", "a.b/c__d/e---f"),
        (f"ubuntu@{DIGEST}", f"docker.io/library/ubuntu@{DIGEST}", f"ubuntu@{DIGEST}"),
        (f"ubuntu:x@{DIGEST}", f"docker.io/library/ubuntu:x@{DIGEST}", f"ubuntu:x@{DIGEST}"),
        ("ubuntu:" + "x" * 128, "docker.io/library/ubuntu:" + "x" * 128, "ubuntu:" + "x" * 128),
        ("ubuntu:_X.-", "docker.io/library/ubuntu:_X.-", "ubuntu:_X.-"),
        (HEX[:63], f"docker.io/library/{HEX[:63]}", HEX[:63]),
    ],
)
def test_parsed(text: str, full: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert parse_reference(full) == parse_reference(familiar) == reference


def test_fields() -> None:
    assert parse_reference(f"localhost:5000/a/b:t@{DIGEST}") == Reference(
        domain="localhost:5000", path="a/b", tag="t", digest=Digest(DIGEST)
    )
    assert parse_reference("ubuntu:t").name == "docker.io/library/ubuntu"
    assert parse_reference("ubuntu:t").familiar_name == "ubuntu"


BAD = "invalid reference format"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", BAD),
        (":tag", BAD),
        ("@" + DIGEST, BAD),
        ("ubuntu:", BAD),
        ("ubuntu:-x", BAD),
        ("ubuntu:a:b", BAD),
        ("ubuntu:" + "x" * 129, BAD),
        ("ubuntu ", BAD),
        ("ubuntu\n", BAD),
        ("-ubuntu", BAD),
        ("ubuntu_", BAD),
        ("a___b", BAD),
        ("a..b", BAD),
        ("a//b", BAD),
        ("/a", BAD),
        ("a/", BAD),
        ("../a", BAD),
        ("foo_bar.com/a", BAD),
        ("-host.com/a", BAD),
        ("host:port/a", BAD),
        ("docker.io/", BAD),
        ("옹기", BAD),
        ("ubuntu@sha256:abc", BAD),
        (f"ubuntu@{DIGEST}@{DIGEST}", BAD),
        (f"ubuntu@{DIGEST[:-1]}", "invalid checksum digest length"),
        (f"ubuntu@md5:{HEX[:32]}", "unsupported digest algorithm"),
        (f"ubuntu@sha256:{HEX.upper()}", "invalid checksum digest format"),
        ("Ubuntu", f"{BAD}: repository name (library/Ubuntu) must be lowercase"),
        ("user/App:x", f"{BAD}: repository name (user/App) must be lowercase"),
        ("quay.io/User/app", f"{BAD}: repository name (User/app) must be lowercase"),
        ("a/" + "x" * 254, "repository name must not be more than 255 characters"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_reference(text)
    assert str(raised.value) == message


def test_the_longest_path() -> None:
    assert len(parse_reference("a/" + "x" * 253).path) == 255


def test_tags_and_digests_replace() -> None:
    ubuntu = parse_reference("ubuntu")
    assert str(ubuntu.with_default_tag()) == "docker.io/library/ubuntu:latest"
    assert ubuntu.with_tag("x").with_default_tag().tag == "x"
    assert ubuntu.with_digest(Digest(DIGEST)).with_default_tag() == parse_reference(f"ubuntu@{DIGEST}")
    assert parse_reference(f"ubuntu:x@{DIGEST}").with_tag("y") == parse_reference("ubuntu:y")
    with pytest.raises(InvalidArgument, match="invalid tag format"):
        ubuntu.with_tag("a/b")


components = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,2})[a-z0-9]{1,3}){0,2}", fullmatch=True)
domains = st.sampled_from(("docker.io", "localhost", "quay.io", "Host", "127.0.0.1:5000", "[::1]", "a-b.c:1"))


@given(
    domain=domains,
    path=st.lists(components, min_size=1, max_size=3).map("/".join),
    tag=st.none() | st.from_regex(r"[\w][\w.-]{0,10}", fullmatch=True).filter(str.isascii),
    digest=st.none() | st.binary().map(Digest.of),
)
def test_every_form_means_the_same(domain: str, path: str, tag: str | None, digest: Digest | None) -> None:
    text = f"{domain}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = parse_reference(text)
    assert reference.domain == domain
    assert reference.path in (path, f"library/{path}")
    assert parse_reference(str(reference)) == parse_reference(reference.familiar) == reference


@given(st.text("aA0._-/:@[]é\n", max_size=12))
def test_whatever_parses_comes_back(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        return
    assert parse_reference(str(reference)) == reference
    assert not any(char.isspace() for char in str(reference))


@pytest.mark.parametrize(
    ("default", "text", "whole"),
    [
        ("docker.io", "a", "docker.io/library/a"),
        ("index.docker.io", "a", "docker.io/library/a"),
        ("r.example.com:5000", "a:1", "r.example.com:5000/a:1"),
        ("r.example.com", "team/a", "r.example.com/team/a"),
        ("r.example.com", "docker.io/a", "docker.io/library/a"),
        ("r.example.com", "localhost/a", "localhost/a"),
    ],
)
def test_a_name_without_a_domain_is_in_the_default_one(default: str, text: str, whole: str) -> None:
    assert str(parse_reference(text, default)) == whole
