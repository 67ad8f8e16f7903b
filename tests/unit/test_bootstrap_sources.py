"""Names, and where the packages for them come from."""

import pytest

from onggi.base.errors import InvalidArgument
from onggi.bootstrap.names import Wanted, parse_name
from onggi.bootstrap.sources import (
    Archive,
    Source,
    check_mirror,
    checks_dates,
    parse_host,
    parse_list,
    parse_sources,
    plan_archives,
    print_sources,
)


@pytest.mark.parametrize(
    ("name", "kind", "suite", "slim", "reference"),
    [
        ("busybox", "busybox", "stable", False, "busybox:latest"),
        ("debian", "debian", "stable", False, "debian:latest"),
        ("debian:bookworm", "debian", "bookworm", False, "debian:bookworm"),
        ("debian:bookworm-slim", "debian", "bookworm", True, "debian:bookworm-slim"),
        ("docker.io/library/debian:12-slim", "debian", "bookworm", True, "debian:12-slim"),
        ("debian:sid", "debian", "sid", False, "debian:sid"),
        ("ubuntu:24.04", "ubuntu", "noble", False, "ubuntu:24.04"),
        ("ubuntu", "ubuntu", "noble", False, "ubuntu:latest"),
    ],
)
def test_names(name: str, kind: str, suite: str, slim: bool, reference: str) -> None:
    assert parse_name(name) == Wanted(kind=kind, suite=suite, slim=slim, reference=reference)


@pytest.mark.parametrize(
    "name",
    [
        *("alpine", "debian:bookwrm", "debian:slim", "ubuntu:noble-slim", "busybox:1.36", "me/debian:bookworm"),
        *("quay.io/debian:bookworm", "Debian", "debian:../x", "", "debian:bookworm@sha256:" + "0" * 64),
    ],
)
def test_names_that_nobody_can_make(name: str) -> None:
    assert parse_name(name) is None


# -- sources.list(5) --------------------------------------------------------------------------------


def test_one_line_sources_are_read() -> None:
    text = """
# deb http://old.example/debian bookworm main
deb-src http://m.example/debian bookworm main
deb [arch=amd64 signed-by=/x check-valid-until=no] http://m.example/debian/ bookworm main contrib # comment
deb cdrom:[Debian]/ bookworm main
deb http://m.example/flat ./
deb
"""
    assert list(parse_list(text)) == [
        Source(uri="http://m.example/debian", suite="bookworm", components=("main", "contrib"), check_until=False),
        Source(uri="cdrom:[Debian]", suite="bookworm", components=("main",)),
    ]


def test_deb822_sources_are_read() -> None:
    text = """# by hand
Types: deb deb-src
URIs: http://m.example/debian
 http://n.example/debian/
Suites: bookworm bookworm-updates
components: main
Signed-By: /x

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
"""
    assert [(source.uri, source.suite) for source in parse_sources(text)] == [
        ("http://m.example/debian", "bookworm"),
        ("http://m.example/debian", "bookworm-updates"),
        ("http://n.example/debian", "bookworm"),
        ("http://n.example/debian", "bookworm-updates"),
    ]


def test_a_file_that_apt_would_refuse_has_no_sources() -> None:
    assert list(parse_sources("no field\n")) == []


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("", True),
        ('Acquire::Check-Valid-Until "false";', False),
        ("acquire::check-valid-until no;", False),
        ('// Acquire::Check-Valid-Until "false";', True),
        ('Acquire::Check-Valid-Until "false";\nAcquire::Check-Valid-Until "true";', True),
    ],
)
def test_the_host_may_not_mind_old_releases(text: str, check: bool) -> None:
    assert checks_dates(text) is check


# -- choosing ---------------------------------------------------------------------------------------

HOST = [
    ("a.list", "deb https://download.example/linux/debian bookworm stable\n"),
    (
        "b.list",
        "deb http://vendor.example/apt bookworm main\ndeb http://me:secret@private.example/debian bookworm main\n",
    ),
    (
        "c.sources",
        "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://s.example/debian-security\nSuites: bookworm-security\nComponents: main\n",
    ),
    ("d.list", "deb http://t.example/debian trixie main\n"),
]


def wanted(suite: str, kind: str = "debian") -> Wanted:
    return Wanted(kind=kind, suite=suite, slim=False, reference=f"{kind}:{suite}")


def places(archives: tuple[Archive, ...]) -> list[tuple[str, str, bool]]:
    return [(archive.base, archive.suite, archive.extra) for archive in archives]


def test_the_mirrors_of_the_host_are_used() -> None:
    assert places(plan_archives(wanted("bookworm"), parse_host(HOST))) == [
        ("http://m.example/debian", "bookworm", False),
        ("http://m.example/debian", "bookworm-updates", True),
        ("http://s.example/debian-security", "bookworm-security", True),
    ]


def test_a_suite_may_have_a_place_of_its_own() -> None:
    assert places(plan_archives(wanted("trixie"), parse_host(HOST)))[::2] == [
        ("http://t.example/debian", "trixie", False),
        ("http://s.example/debian-security", "trixie-security", True),
    ]


def test_another_suite_comes_from_the_same_mirror() -> None:
    assert places(plan_archives(wanted("sid"), parse_host(HOST))) == [("http://m.example/debian", "sid", False)]


def test_a_mirror_that_is_named_counts_before_the_hosts() -> None:
    assert places(plan_archives(wanted("bookworm"), parse_host(HOST), "http://x.example/debian/")) == [
        ("http://x.example/debian", "bookworm", False),
        ("http://x.example/debian", "bookworm-updates", True),
        ("http://x.example/debian-security", "bookworm-security", True),
    ]
    assert len(plan_archives(wanted("bookworm"), [], "http://x.example/else")) == 2


def test_ubuntu_has_its_security_fixes_beside_the_rest() -> None:
    host = parse_host([("u.list", "deb http://u.example/ubuntu noble main universe\n")])
    assert places(plan_archives(wanted("noble", "ubuntu"), host)) == [
        ("http://u.example/ubuntu", "noble", False),
        ("http://u.example/ubuntu", "noble-updates", True),
        ("http://u.example/ubuntu", "noble-security", True),
    ]


@pytest.mark.parametrize("kind", ["debian", "ubuntu"])
def test_a_host_without_a_mirror_says_so(kind: str) -> None:
    with pytest.raises(InvalidArgument, match=f"no mirror of {kind}; .*--mirror URL"):
        plan_archives(wanted("x", kind), parse_host(HOST[:2]))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://m.example/debian",
        "file:///x",
        "http://",
        "http:///x",
        "http://m/a b",
        "http://m/x?y",
        "http://m/\n",
    ],
)
def test_what_is_no_mirror_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a URL"):
        check_mirror(url)


def test_a_password_is_not_put_into_an_image() -> None:
    with pytest.raises(InvalidArgument, match="a password does not belong here") as caught:
        check_mirror("http://me:secret@m.example/debian")
    assert "secret" not in str(caught.value)


def test_the_sources_of_an_image_are_those_it_was_made_from() -> None:
    text = print_sources("debian", plan_archives(wanted("bookworm"), parse_host(HOST)))
    found = list(parse_sources(text))
    assert [(source.uri, source.suite) for source in found] == [
        ("http://m.example/debian", "bookworm"),
        ("http://m.example/debian", "bookworm-updates"),
        ("http://s.example/debian-security", "bookworm-security"),
    ]
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n") == 2
