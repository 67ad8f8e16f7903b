"""Where packages come from: sources.list(5) in both of its forms, read and written. Pure.

Of a host's configuration only what names the distribution's own archive counts: the
component `main` at a URL that ends like a mirror of it (`/debian`, `/ubuntu`, and for
security `/debian-security`). Whoever has it elsewhere says `--mirror`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument

from .deb822 import parse_stanzas
from .names import Wanted

_ENDS: Final = {"debian": ("/debian",), "ubuntu": ("/ubuntu", "/ubuntu-ports")}
_ROLLING: Final = frozenset({"sid", "unstable"})
_KEYRINGS: Final = {
    "debian": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
_ODD: Final = frozenset(" \"'<>\\^`{|}#?")
"""What no URL of a mirror has, and what would mean something else in a sources.list."""
_COMPONENTS: Final = {"debian": ("main",), "ubuntu": ("main", "universe", "restricted", "multiverse")}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a host takes packages from. `check_until`: out of date is out of the question."""

    uri: str
    suite: str
    components: tuple[str, ...]
    check_until: bool = True


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A suite to take packages from, at the URL `base`. `extra`: one may do without, where it is not there."""

    base: str
    suite: str
    extra: bool = False
    check_until: bool = True


def parse_list(text: str) -> Iterator[Source]:
    """Read a sources.list, one source a line; what makes no sense to apt is nothing to us either."""
    for line in text.splitlines():
        kind, _, rest = line.partition("#")[0].strip().partition(" ")
        if kind != "deb":
            continue
        options: dict[str, str] = {}
        rest = rest.strip()
        if rest.startswith("["):
            inside, _, rest = rest[1:].partition("]")
            options = {name.lower(): value for name, _, value in (word.partition("=") for word in inside.split())}
        uri, *words = rest.split() or ("",)
        if len(words) >= 2:
            check = not _is_no(options.get("check-valid-until", ""))
            yield Source(uri=uri.rstrip("/"), suite=words[0], components=tuple(words[1:]), check_until=check)


def parse_sources(text: str) -> Iterator[Source]:
    """Read a file of the form deb822; one that apt would refuse has no sources."""
    try:
        stanzas = [{name.lower(): value for name, value in stanza.items()} for stanza in parse_stanzas(text)]
    except Corrupt:
        return
    for stanza in stanzas:
        if "deb" not in stanza.get("types", "").split() or _is_no(stanza.get("enabled", "")):
            continue
        components = tuple(stanza.get("components", "").split())
        check = not _is_no(stanza.get("check-valid-until", ""))
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                yield Source(uri=uri.rstrip("/"), suite=suite, components=components, check_until=check)


def parse_host(texts: Iterable[tuple[str, str]]) -> list[Source]:
    """Read all files of a host, given as (name, content)."""
    return [
        source
        for name, text in texts
        for source in (parse_sources(text) if name.endswith(".sources") else parse_list(text))
    ]


def checks_dates(configuration: str) -> bool:
    """Say whether apt.conf(5) leaves the check of Valid-Until on, which it can switch off in one line."""
    check = True
    for line in configuration.splitlines():
        name, _, value = line.partition("//")[0].strip().rstrip(";").partition(" ")
        if name.lower() == "acquire::check-valid-until":
            check = not _is_no(value.strip().strip('"'))
    return check


def _is_no(word: str) -> bool:
    return word.strip().lower() in ("no", "false", "without", "off", "disable", "0")


def plan_archives(wanted: Wanted, sources: Iterable[Source], mirror: str | None = None) -> tuple[Archive, ...]:
    """Choose where to take a suite from, its updates and its security fixes. Raises InvalidArgument.

    `mirror` counts before the host's own. Debian's security fixes are then taken from
    beside it: `…/debian-security` for `…/debian`.
    """
    here = [] if mirror else [source for source in sources if _is_usable(source)]
    ends = _ENDS[wanted.distribution]
    mains = [source for source in here if source.uri.endswith(ends) and not source.suite.endswith("-security")]
    # A host that has this very suite may take it from another place than the rest.
    mains.sort(key=lambda source: source.suite != wanted.suite)
    if mirror:
        base, check = check_mirror(mirror), True
    elif mains:
        base, check = mains[0].uri, mains[0].check_until
    else:
        raise InvalidArgument(
            f"this host's apt configuration names no mirror of {wanted.distribution}; "
            "say which one to use: --mirror URL"
        )
    main = Archive(base=base, suite=wanted.suite, check_until=check)
    if wanted.suite in _ROLLING:
        return (main,)
    return (main, *_extras(wanted, main, here))


def _extras(wanted: Wanted, main: Archive, here: Iterable[Source]) -> Iterator[Archive]:
    yield Archive(base=main.base, suite=f"{wanted.suite}-updates", extra=True, check_until=main.check_until)
    name = f"{wanted.suite}-security"
    ends = ("/debian-security",) if wanted.distribution == "debian" else _ENDS[wanted.distribution]
    found = [source for source in here if source.uri.endswith(ends) and source.suite.endswith("-security")]
    found.sort(key=lambda source: source.suite != name)
    if found:
        yield Archive(base=found[0].uri, suite=name, extra=True, check_until=found[0].check_until)
    elif wanted.distribution == "ubuntu":
        yield Archive(base=main.base, suite=name, extra=True, check_until=main.check_until)
    elif main.base.endswith("/debian"):
        yield Archive(base=f"{main.base}-security", suite=name, extra=True, check_until=main.check_until)


def _is_usable(source: Source) -> bool:
    """Say whether we can take packages from there; one with a password would show it in the image's history."""
    return "main" in source.components and _is_url(source.uri) and "@" not in _host(source.uri)


def check_mirror(url: str) -> str:
    """Give a mirror's URL as we use it. Raises InvalidArgument for one that is none, or that holds a password."""
    if not _is_url(url):
        raise InvalidArgument(f"--mirror {url!r}: expected a URL that begins with http:// or https://")
    if "@" in _host(url):
        raise InvalidArgument(
            "--mirror: a password does not belong here: it would be in the image's history for all to read"
        )
    return url.rstrip("/")


def _is_url(text: str) -> bool:
    plain = text.isascii() and text.isprintable() and not set(text) & _ODD
    return plain and text.startswith(("http://", "https://")) and bool(_host(text))


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def print_sources(distribution: str, archives: Iterable[Archive]) -> str:
    """Write the sources of an image, as Docker's images have them: those that it was made from."""
    suites: dict[str, list[str]] = {}
    for archive in archives:
        suites.setdefault(archive.base, []).append(archive.suite)
    return "\n".join(_print_source(distribution, base, names) for base, names in suites.items())


def _print_source(distribution: str, base: str, suites: list[str]) -> str:
    fields: Mapping[str, str] = {
        "Types": "deb",
        "URIs": base,
        "Suites": " ".join(suites),
        "Components": " ".join(_COMPONENTS[distribution]),
        "Signed-By": _KEYRINGS[distribution],
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())
