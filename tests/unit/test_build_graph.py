"""Config and history of Dockerfiles before anything runs: they are what BuildKit's frontend makes of them."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from onggi.base.errors import NotFound, OnggiError
from onggi.build.dockerfile.parser import parse_dockerfile
from onggi.build.graph import BaseImage, CopyStep, FromContext, Graph, Options, RunStep, plan_graph
from onggi.spec.image_config import ContainerConfig, ImageConfig, RootFS
from onggi.spec.json import encode_json
from onggi.spec.platform import Platform

# Dockerfile, build arguments, and BuildKit's image or error.
FACTS: Final[list[tuple[str, dict[str, str], dict[str, Any]]]] = json.loads(
    (Path(__file__).parent / "data" / "dockerfile" / "graph.json").read_text()
)
AMD64: Final = Platform(os="linux", architecture="amd64")


def plan(text: str, base: ContainerConfig | None = None, **options: Any) -> Graph:
    """Plan a Dockerfile whose only base image is `base`."""

    def resolve(name: str, platform: Platform) -> BaseImage:
        if base is None or name != "base":
            raise NotFound(f"image {name} is not here")
        config = ImageConfig(architecture="amd64", os="linux", config=base, rootfs=RootFS(type="layers"))
        return BaseImage(name=name, id="1", config=config, layers=())

    given = Options(platform=AMD64, build_platform=AMD64, **options)
    return plan_graph(parse_dockerfile(text, name=given.name), given, resolve)


@pytest.mark.parametrize(("text", "args", "theirs"), FACTS, ids=[repr(text)[14:60] for text, *_ in FACTS])
def test_config_and_history_are_buildkits(text: str, args: dict[str, str], theirs: dict[str, Any]) -> None:
    if "error" in theirs:
        with pytest.raises(OnggiError) as caught:
            plan(text, args=args)
        assert theirs["error"].partition("\n")[0] in str(caught.value)
        return
    graph = plan(text, args=args)
    stage = graph.stages[graph.target]
    ours = {
        "history": [[entry.created_by, bool(entry.empty_layer)] for entry in stage.history],
        "config": msgspec.json.decode(encode_json(stage.config)),
        "author": stage.author,
    }
    assert ours == theirs


def test_only_the_stages_that_the_target_needs_are_planned() -> None:
    text = "FROM scratch AS a\nFROM scratch AS b\nRUN x\nFROM scratch AS c\nCOPY --from=a /x /x\nFROM b\n"
    assert set(plan(text).stages) == {1, 3}
    assert set(plan(text, target="C").stages) == {0, 2}


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("RUN echo  a \\\n  b # c", "RUN echo a b # c"),
        ("copy $x  ./y", "COPY v ./y"),
        ("RUN", "RUN"),
        ("RUN <<E\nbody\nE", "RUN <<E"),
        ('RUN echo $unset "$x"', 'RUN echo $unset "v"'),
    ],
)
def test_titles(line: str, title: str) -> None:
    assert plan(f"FROM scratch\nARG x=v\n{line}\n").stages[0].steps[-1].title == title


def test_proxies_reach_a_run_but_are_no_part_of_its_environment_unless_declared() -> None:
    proxy = {"http_proxy": "p"}
    (plain,), (declared,) = (
        plan(f"FROM scratch\n{text}RUN x\n", args=proxy).stages[0].steps for text in ("", "ARG http_proxy\n")
    )
    assert isinstance(plain.action, RunStep)
    assert isinstance(declared.action, RunStep)
    assert plain.action.proxies == ("http_proxy=p",)
    assert "http_proxy=p" not in plain.action.env
    assert "http_proxy=p" in declared.action.env


def test_a_script_is_a_file_and_a_shell_text_is_not() -> None:
    script, text = plan("FROM scratch\nRUN <<X\n#!/bin/y\nz\nX\nRUN <<X\nz\nX\n").stages[0].steps
    assert isinstance(script.action, RunStep)
    assert isinstance(text.action, RunStep)
    assert script.action.script == ("/dev/pipes/X", "#!/bin/y\nz\n")
    assert text.action.script is None
    assert text.action.argv[-1] == "z\n"


def test_a_context_by_name_is_what_copies_come_from() -> None:
    (step,) = plan("FROM scratch\nCOPY --from=more a b\n", contexts=frozenset({"more"})).stages[0].steps
    assert isinstance(step.action, CopyStep)
    assert step.action.files == FromContext("more")


def test_unused_arguments_are_told() -> None:
    given = {"a": "1", "b": "2", "HTTP_PROXY": "p", "SOURCE_DATE_EPOCH": "1"}
    assert plan("FROM scratch\nARG a\n", args=given).unused == ("b",)


@pytest.mark.parametrize(
    "text",
    ["FROM base\nENV x=${y:?gone}\n", "FROM ${x:?gone}\n", "ARG a=${b:?gone}\nFROM base\n", "FROM base\nRUN []\n"],
)
def test_errors_name_the_file_and_show_the_line(text: str) -> None:
    with pytest.raises(OnggiError, match=r"^My\.file:[12]: ") as caught:
        plan(text, ContainerConfig(), name="My.file")
    assert " | " in str(caught.value)


def test_triggers_are_read_with_a_backslash_whatever_this_file_says() -> None:
    base = ContainerConfig(on_build=("RUN a \\\n b", "ENV x=`y"))
    graph = plan("# escape=`\nFROM base\n", base)
    assert [entry.created_by for entry in graph.stages[0].history] == ["RUN /bin/sh -c a  b # buildkit", "ENV x=y"]
    assert graph.stages[0].config.on_build is None
