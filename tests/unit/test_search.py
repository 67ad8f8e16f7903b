"""`onggi search`: Docker's index where there is one, a registry's catalogue elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.callers import Commands
from tests.registry_server import Registry, answer, endless, redirect, status

RESULTS: list[dict[str, Any]] = [
    {"name": "nginx", "description": "Official build of Nginx.", "star_count": 20000, "is_official": True},
    {
        "name": "bitnami/nginx",
        "description": "A long description, \x1b[2J with\nlines, of this image",
        "star_count": 200,
    },
    {"name": "\x1b[2J", "description": "what has no name that can be pulled", "star_count": 9000},
    {"name": "someone/nginx", "description": None, "star_count": 0, "is_automated": True},
]
INDEX = json.dumps({"num_results": 4, "results": RESULTS}).encode()


class Searches(Commands):
    """A user for whom Docker Hub is a test registry."""

    def __init__(self, home: Path, hub: Registry) -> None:
        super().__init__(home)
        self.hub = hub
        (home / ".config" / "onggi").mkdir(parents=True)
        (home / ".config" / "onggi" / "registries.toml").write_text(
            f'[registry."docker.io"]\nurl = "{hub.url}/v2"\nmirrors = ["https://127.0.0.1:1/v2"]\n'
        )


@pytest.fixture
def searches(tmp_path: Path) -> Iterator[Searches]:
    with Registry() as hub:
        hub.fault("GET", "^/v1/search$", answer(200, INDEX, Content_Type="application/json"))
        yield Searches(tmp_path, hub)


def test_what_is_found_is_shown_in_dockers_columns(searches: Searches) -> None:
    assert searches.run("search", "library/nginx") == (
        "NAME            DESCRIPTION                                     STARS     OFFICIAL\n"
        "nginx           Official build of Nginx.                        20000     [OK]\n"
        "bitnami/nginx   A long description, [2J with lines, of this …   200       \n"
        "someone/nginx                                                   0         \n"
    )
    (asked,) = searches.hub.asked
    assert (asked.path, asked.query) == ("/v1/search", {"q": ["nginx"], "n": ["25"]})


def test_formats_and_full_descriptions(searches: Searches) -> None:
    template = "{{.Name}}: {{.Description}} {{.StarCount}} {{.IsOfficial}}"
    lines = searches.run("search", "--no-trunc", "--format", template, "nginx").splitlines()
    assert lines[0] == "nginx: Official build of Nginx. 20000 [OK]"
    assert lines[1] == "bitnami/nginx: A long description, [2J with lines, of this image 200 "
    first = json.loads(searches.run("search", "--format", "json", "nginx").splitlines()[0])
    assert first == {
        "Name": "nginx",
        "Description": "Official build of Nginx.",
        "StarCount": "20000",
        "IsOfficial": "true",
        "IsAutomated": "false",
    }


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("stars=200",), ["nginx", "bitnami/nginx"]),
        (("stars=1", "stars=1000"), ["nginx"]),
        (("is-official=true",), ["nginx"]),
        (("is-official=false", "stars=1"), ["bitnami/nginx"]),
        (("is-automated=true",), ["someone/nginx"]),
    ],
)
def test_filters(searches: Searches, filters: tuple[str, ...], names: list[str]) -> None:
    words = [word for one in filters for word in ("--filter", one)]
    assert searches.run("search", *words, "--format", "{{.Name}}", "nginx").split() == names
    assert ("is-automated" in searches.err) == filters[0].startswith("is-automated")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit", "101", "a"), "limit 101 is outside the range of [1, 100]"),
        (("--limit", "-1", "a"), "limit -1 is outside the range of [1, 100]"),
        (("--filter", "stars=many", "a"), "invalid filter 'stars=[many]'"),
        (("--filter", "is-official=perhaps", "a"), "invalid filter 'is-official=[perhaps]'"),
        (("--filter", "name=a", "a"), "invalid filter 'name'"),
        (("https://a.example/b",), "repository name (https://a.example/b) should not have a scheme"),
    ],
)
def test_what_cannot_be_asked(searches: Searches, words: tuple[str, ...], said: str) -> None:
    searches.run("search", *words, code=1)
    assert said in searches.err
    assert not searches.hub.asked


def test_a_limit_holds_whatever_the_server_sends(searches: Searches) -> None:
    assert searches.run("search", "--limit", "1", "--format", "{{.Name}}", "nginx") == "nginx\n"
    assert searches.hub.asked[0].query["n"] == ["1"]


# -- other registries ----------------------------------------------------------------------------


def serve_catalog(registry: Registry, *pages: list[str]) -> None:
    for number, names in enumerate(pages, 1):
        link = {} if number == len(pages) else {"Link": f'</v2/_catalog?page={number}>; rel="next"'}
        body = json.dumps({"repositories": names}).encode()
        registry.fault("GET", "^/v2/_catalog$", answer(200, body, **link), times=1)


def test_a_registry_without_an_index_is_searched_by_its_catalogue(searches: Searches) -> None:
    with Registry() as other:
        serve_catalog(other, ["team/app", "Wrong//name", "tool"], ["app-two", "more"])
        found = searches.run("search", "--format", "{{.Name}}", f"{other.host}/APP").split()
        assert found == [f"{other.host}/team/app", f"{other.host}/app-two"]
    assert not searches.hub.asked


def test_a_page_for_people_is_no_index(searches: Searches) -> None:
    with Registry() as other:
        other.fault("GET", "/v1/search", answer(200, b"<html>Welcome</html>"))
        serve_catalog(other, ["app"])
        assert searches.run("search", "--format", "{{.Name}}", f"{other.host}/app") == f"{other.host}/app\n"


def test_another_registry_may_have_an_index(searches: Searches) -> None:
    with Registry() as other:
        other.fault("GET", "/v1/search", answer(200, INDEX))
        found = searches.run("search", "--format", "{{.Name}}", f"{other.host}/nginx").split()
        assert found[1] == f"{other.host}/bitnami/nginx"


def test_the_catalogue_is_asked_for_with_a_token_of_its_own(searches: Searches) -> None:
    with Registry(auth="bearer") as other:
        searches.run("search", f"{other.host}/app", code=1)
        scopes = [scope for asked in other.asked for scope in asked.query.get("scope", [])]
        assert "registry:catalog:*" in scopes


# -- lies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (endless(), "sends more than the"),
        (status(500), "500"),
        (status(403), "does not let us search it"),
        (redirect("/v1/search?again"), "redirects in a circle"),
        (answer(200, b"[]"), "what docker.io finds"),
        (answer(200, b'{"results": [{"name": "a", "star_count": -1}]}'), "star_count"),
    ],
)
def test_an_index_that_lies_or_fails_is_an_error(searches: Searches, fault: Any, said: str) -> None:
    searches.hub.heal()
    searches.hub.fault("GET", "/v1/search", fault)
    searches.run("search", "nginx", code=1)
    assert said in searches.err


def test_a_catalogue_without_end_is_an_error(searches: Searches) -> None:
    with Registry() as other:
        link = '</v2/_catalog?again>; rel="next"'
        other.fault("GET", "_catalog", answer(200, b'{"repositories": ["b"]}', Link=link))
        searches.run("search", f"{other.host}/app", code=1)
        assert "its pages have no end" in searches.err


def test_a_catalogue_does_not_go_on_elsewhere(searches: Searches) -> None:
    with Registry() as other:
        link = f'<{searches.hub.url}/v2/_catalog>; rel="next"'
        other.fault("GET", "_catalog", answer(200, b'{"repositories": ["b"]}', Link=link))
        searches.run("search", f"{other.host}/app", code=1)
        assert "the next page is at another server" in searches.err
    assert not searches.hub.asked


def test_a_registry_that_cannot_be_searched_says_so(searches: Searches) -> None:
    with Registry() as other:
        searches.run("search", f"{other.host}/app", code=1)
        assert f"{other.host} cannot be searched: it has no index and no catalogue" in searches.err
