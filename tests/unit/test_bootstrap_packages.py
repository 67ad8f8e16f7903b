"""Package indices: what is read, what is refused, and what is chosen."""

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import Corrupt, NotFound, OnggiError
from onggi.bootstrap import packages
from onggi.bootstrap.deb822 import parse_stanzas
from onggi.bootstrap.packages import Index, Relation, choose, parse_relations

HASH: Final = "0" * 64
BASE: Final = "http://mirror.example/debian"


def stanza(name: str, version: str = "1", **fields: str) -> str:
    """Write one entry of an index."""
    every = {
        "Package": name,
        "Version": version,
        "Filename": f"pool/{name}.deb",
        "Size": "10",
        "SHA256": HASH,
        **{field.replace("_", "-"): value for field, value in fields.items()},
    }
    return "".join(f"{field}: {value}\n" for field, value in every.items()) + "\n"


def index(*stanzas: str) -> Index:
    """Make an index of one archive."""
    made = Index()
    made.add(["".join(stanzas)], BASE)
    return made


def names(index: Index, *wanted: str, prefer: frozenset[str] = frozenset()) -> list[str]:
    """Choose, and give the names."""
    return [package.name for package in choose(index, wanted, prefer=prefer)]


# -- deb822 -----------------------------------------------------------------------------------------


def test_stanzas_have_continuation_lines_and_comments() -> None:
    found = list(parse_stanzas("# x\nA: 1\nB:\n x\n y\n\n \nC: 2\n"))
    assert found == [{"A": "1", "B": "\nx\ny"}, {"C": "2"}]


@pytest.mark.parametrize("text", [" a\n", "no field\n", "A: 1\nA: 2\n", ": 1\n"])
def test_what_is_no_stanza_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        list(parse_stanzas(text))


@given(st.text(alphabet="Aa: \t\n#-", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Corrupt):
        assert all(found for found in parse_stanzas(text))


FIELDS: Final = st.dictionaries(
    st.text(alphabet="ABab", min_size=1, max_size=3), st.text(alphabet="xy", max_size=3), min_size=1, max_size=4
)


@given(st.lists(FIELDS, max_size=4))
def test_what_is_written_is_read(stanzas: list[dict[str, str]]) -> None:
    text = "\n".join("".join(f"{name}: {value}\n" for name, value in found.items()) for found in stanzas)
    assert list(parse_stanzas(text)) == stanzas


# -- entries ----------------------------------------------------------------------------------------


def test_an_index_gives_the_newest_of_each_package_and_where_it_is() -> None:
    both = index(stanza("aa", "1"), stanza("aa", "1.5"), stanza("bb", "2"))
    both.add([stanza("aa", "1.5+deb12u1"), stanza("bb", "1")], "http://security.example/debian-security")
    newest, older = both.find("aa"), both.find("bb")
    assert newest is not None
    assert older is not None
    assert (newest.version, newest.base) == ("1.5+deb12u1", "http://security.example/debian-security")
    assert (older.version, older.base) == ("2", BASE)
    assert both.find("cc") is None


def test_what_was_looked_up_before_an_archive_came_is_looked_up_again() -> None:
    both = index(stanza("aa", "1"))
    assert both.find("aa") is not None
    both.add([stanza("aa", "2", Provides="virtual")], BASE)
    found = both.find("aa")
    assert found is not None
    assert found.version == "2"
    assert both.providers("virtual") == ["aa"]


def test_an_entry_is_read_whole() -> None:
    found = index(stanza("aa", Depends="bb (>= 2) | xx, cc:any", Pre_Depends="dd", Provides="vv (= 3), ww")).find("aa")
    assert found is not None
    assert found.depends == ((Relation("dd"),), (Relation("bb", ">=", "2"), Relation("xx")), (Relation("cc"),))
    assert found.provides == (Relation("vv", "=", "3"), Relation("ww"))


@pytest.mark.parametrize(
    "fields",
    [
        {"Filename": "/etc/passwd"},
        {"Filename": "pool/../../x"},
        {"Filename": "pool/./x"},
        {"Filename": "pool//x"},
        {"Filename": "http://elsewhere.example/x"},
        {"Filename": "pool/x?y"},
        {"Filename": "pool/x#y"},
        {"Filename": "pool/%2e%2e/x"},
        {"Filename": "pool/a b"},
        {"Filename": "pool\\x"},
        {"Filename": ""},
        {"Size": "-1"},
        {"Size": "0"},
        {"Size": "ten"},
        {"Size": str(1 << 40)},
        {"SHA256": "abc"},
        {"SHA256": "../" + "a" * 61},
        {"Version": "1 2"},
        {"Version": "x:1"},
        {"Depends": "bb (>= )"},
        {"Depends": "bb (~ 1)"},
    ],
)
def test_an_impossible_entry_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Corrupt):
        index(stanza("aa", **fields)).find("aa")


@pytest.mark.parametrize("name", ["a", "AA", "a/b", "..", "x" * 200])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(Corrupt):
        index(stanza(name)).find(name)


@given(st.lists(st.integers(1, 40), min_size=1))
def test_an_index_may_come_in_any_pieces(sizes: list[int]) -> None:
    text = "".join(stanza(name) for name in ("aa", "bb", "cc"))
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    made = Index()
    made.add([*pieces, text[at:]], BASE)
    assert names(made, "aa", "bb", "cc") == ["aa", "bb", "cc"]


def test_an_entry_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_MAX_STANZA_CHARS", 200)
    with pytest.raises(Corrupt, match="more than 200 characters"):
        Index().add(["Package: aa\n", *("X: x\n" for _ in range(100))], BASE)


def test_an_entry_without_a_name_is_refused() -> None:
    with pytest.raises(Corrupt, match="without a name"):
        index("Version: 1\n")


def test_the_name_may_stand_anywhere_in_an_entry() -> None:
    text = stanza("aa")
    first, rest = text.split("\n", 1)
    assert index(rest.strip() + f"\n{first}\n").find("aa") is not None


def test_there_are_not_more_entries_than_a_distribution_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_PACKAGES", 2)
    with pytest.raises(Corrupt, match="more than 2 entries"):
        index(stanza("aa"), stanza("bb"), stanza("cc"))


@given(st.text(alphabet="ab (>=)|,:[]1<\n", max_size=30))
def test_any_relations_are_read_or_refused(text: str) -> None:
    with suppress(Corrupt):
        assert all(group for group in parse_relations(text))


@given(st.text(alphabet="Package: Version\nab1.-~", max_size=80))
def test_any_index_is_read_or_refused(text: str) -> None:
    with suppress(OnggiError):
        made = index(text)
        made.minimal()
        made.find("aa")


# -- choosing ---------------------------------------------------------------------------------------


def test_every_system_has_what_is_essential_or_required() -> None:
    every = index(
        stanza("one", Essential="yes"), stanza("two", Priority="required"), stanza("three", Priority="optional"),
        stanza("four", Priority="required", Version="1"), stanza("four", "2", Priority="optional"),
    )  # fmt: skip
    assert every.minimal() == ["one", "two"]


def test_dependencies_are_followed_round_in_circles() -> None:
    every = index(stanza("aa", Depends="bb"), stanza("bb", Pre_Depends="cc"), stanza("cc", Depends="aa"), stanza("dd"))
    assert names(every, "aa") == ["aa", "bb", "cc"]


def test_an_alternative_that_is_there_already_is_taken() -> None:
    every = index(stanza("aa", Depends="bb | cc"), stanza("bb"), stanza("cc"))
    assert names(every, "aa", "cc") == ["aa", "cc"]
    assert names(every, "aa") == ["aa", "bb"]
    assert names(every, "aa", prefer=frozenset({"cc"})) == ["aa", "cc"]


def test_versions_decide_between_alternatives() -> None:
    every = index(stanza("aa", Depends="bb (>= 2) | cc (<< 1) | dd"), stanza("bb"), stanza("cc"), stanza("dd"))
    assert names(every, "aa") == ["aa", "dd"]


def test_what_is_provided_will_do() -> None:
    every = index(
        stanza("aa", Depends="mta"), stanza("zz", Priority="important", Provides="mta"), stanza("bb", Provides="mta")
    )
    assert names(every, "aa") == ["aa", "zz"]
    assert names(every, "aa", "bb") == ["aa", "bb"]


def test_what_is_provided_without_a_version_has_none() -> None:
    plain = index(stanza("aa", Depends="vv (>= 1)"), stanza("bb", "9", Provides="vv"))
    with pytest.raises(NotFound):
        names(plain, "aa")
    versioned = index(stanza("aa", Depends="vv (>= 1)"), stanza("bb", "9", Provides="vv (= 1)"))
    assert names(versioned, "aa") == ["aa", "bb"]


def test_what_the_archive_does_not_have_is_named() -> None:
    with pytest.raises(NotFound, match=r"no package libx \(>= 2\) or liby, which aa needs"):
        names(index(stanza("aa", Depends="libx (>= 2) | liby")), "aa")


def test_a_base_system_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_MAX_CHOSEN", 3)
    chain = [stanza(f"p{number}", Depends=f"p{number + 1}") for number in range(9)]
    with pytest.raises(Corrupt, match="more than 3 packages"):
        names(index(*chain, stanza("p9")), "p0")
