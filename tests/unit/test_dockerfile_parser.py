"""Dockerfiles become the instructions that BuildKit makes of them, and wrong ones are explained.

data/dockerfile/parse.json was recorded from BuildKit 0.25.1: Dockerfile, then what its parser made of it.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.build.dockerfile import instructions as of
from onggi.build.dockerfile.errors import DockerfileError, DockerfileNotSupported
from onggi.build.dockerfile.heredocs import run_script
from onggi.build.dockerfile.parser import INSTRUCTIONS, parse_dockerfile, parse_trigger
from onggi.build.dockerfile.sources import check_sources

FACTS = json.loads((Path(__file__).parent / "data/dockerfile/parse.json").read_text())


@pytest.mark.parametrize(("text", "expected"), FACTS, ids=[text[-40:] for text, _ in FACTS])
def test_as_buildkit(text: str, expected: dict[str, Any]) -> None:
    """What it accepts we accept with the same meaning; what it refuses we refuse with its words."""
    if "error" in expected:
        with pytest.raises(DockerfileError) as caught:
            parse_dockerfile(text)
        wanted = "cannot be empty" if not text else expected["error"]
        assert wanted in str(caught.value)
    else:
        assert _plain(parse_dockerfile(text)) == expected


def _plain(dockerfile: of.Dockerfile) -> dict[str, Any]:
    """Give a Dockerfile in the form in which the facts are written down."""
    stages = [
        {
            "base": stage.from_.base,
            "name": stage.from_.name or "",
            "platform": stage.from_.platform or "",
            "commands": [_plain_instruction(one) for one in stage.instructions] or None,
        }
        for stage in dockerfile.stages
    ]
    return {
        "escape": dockerfile.escape,
        "meta": [[list(pair) for pair in arg.names] for arg in dockerfile.meta_args] or None,
        "stages": stages,
        "warnings": sum("Empty continuation" in warning.text for warning in dockerfile.warnings),
    }


def _plain_instruction(one: of.Instruction) -> list[Any]:
    kind = type(one).__name__
    match one:
        case of.Run():
            docs = [[doc.name, doc.content, doc.chomp] for doc in one.command.heredocs]
            return [kind, _plain_command(one.command), docs, one.network or "default", len(one.mounts)]
        case of.Cmd() | of.Entrypoint():
            return [kind, _plain_command(one.command)]
        case of.Copy():
            docs = [[doc.name, doc.content, doc.expand] for doc in one.heredocs]
            flags = [one.from_ or "", one.chown or "", one.chmod or "", list(one.exclude), one.unpack]
            return ["Add" if one.add else "Copy", list(one.sources), docs, one.destination, *flags]
        case of.HealthcheckInstruction():
            command = one.command
            test = ["CMD-SHELL" if command.shell else "CMD", *command.words] if command else ["NONE"]
            times = [one.interval_ns, one.timeout_ns, one.start_period_ns, one.start_interval_ns]
            return [kind, test, *times, one.retries]
        case _:
            fields = msgspec.json.decode(msgspec.json.encode(one))
            del fields["place"]
            return [kind, *fields.values()]


def _plain_command(form: of.CommandForm) -> dict[str, Any]:
    return {"cmd": list(form.words), "shell": form.shell}


def only(text: str) -> of.Instruction:
    """Give the one instruction after FROM."""
    (instruction,) = parse_dockerfile(f"FROM a\n{text}").stages[0].instructions
    return instruction


def test_there_are_eighteen_instructions() -> None:
    assert len(INSTRUCTIONS) == 18


def test_the_facts_have_every_instruction() -> None:
    seen = {
        command[0] for _, fact in FACTS for stage in fact.get("stages") or () for command in stage["commands"] or ()
    }
    expected = {kind.__name__ for kind in of.Instruction.__subclasses__()} - {"From", "Copy"} | {"Add", "Copy"}
    assert expected <= seen


def test_an_error_names_file_line_and_instruction_shows_the_line_and_suggests() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile("FROM a\n\nRUNN apt-get update \\\n  && x\n", name="web/Dockerfile")
    assert str(caught.value) == (
        "web/Dockerfile:3: unknown instruction: RUNN (did you mean RUN?)\n  3 | RUNN apt-get update \\"
    )
    assert caught.value.line == 3
    assert isinstance(caught.value, InvalidArgument)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY --form=x a b", "Dockerfile:2: COPY: unknown flag: --form (did you mean from?)\n  2 | COPY --form=x a b"),
        ("RUN --mont=x y", "Dockerfile:2: RUN: unknown flag: --mont (did you mean mount?)\n  2 | RUN --mont=x y"),
        ("RUN --network=hots y", 'Dockerfile:2: RUN: invalid network mode "hots" (did you mean host?)'),
        ("copy a", "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could"),
        ("SHELL bash", "SHELL requires the arguments to be in JSON form"),
        (
            "COPY --from=$x a b",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG",
        ),
        ("RUN --mount=from=$x y", "'from' doesn't support variable expansion, define alias stage instead"),
        ("RUN <<EOF\nx", "unterminated heredoc: no line that is just EOF follows"),
        ("RUN a\0b", "NUL byte"),
        ("HEALTHCHECK --retries=x CMD y", 'parsing "x": invalid syntax'),
        ("HEALTHCHECK --retries=99999999999 CMD y", "value out of range"),
        (f"RUN {'x' * 65536}", "dockerfile line greater than max allowed size of 65535"),
    ],
)
def test_messages(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(f"FROM a\n{text}")
    assert message in str(caught.value)
    assert caught.value.line == 2


def test_a_line_of_64_KiB_is_the_longest() -> None:
    assert parse_dockerfile(f"FROM a\nRUN {'x' * 65531}\n").stages


@pytest.mark.parametrize(
    ("text", "message"), [("", "cannot be empty"), ("# x\n", "no instr"), ("ARG a\n", "no stages")]
)
def test_a_file_without_stages(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        parse_dockerfile(text)


def test_a_long_line_is_shown_in_part() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(f"FROM a\nNOPE {'x' * 500}\n")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RUN --mount=type=secret,id=x y", "--mount=type=secret"),
        ("RUN --mount=type=SSH y", "--mount=type=ssh"),
        ("RUN --security=insecure y", "--security"),
        ("RUN --device=x y", "--device"),
        ("COPY --link a b", "--link"),
        ("COPY --parents a b", "--parents"),
        ("ADD --link=true a b", "--link"),
        ("ADD --keep-git-dir a b", "--keep-git-dir"),
        ("ADD --checksum=sha256:0 a b", "--checksum"),
        ("ADD https://example.com/a /a", "https://example.com/a"),
        ("ADD HTTP://example.com/a /a", "HTTP://example.com/a"),
        ("ADD git@github.com:a/b.git /a", "git@github.com:a/b.git"),
        ("ADD github.com/a/b /a", "github.com/a/b"),
        ("ADD user@host:path /a", "user@host:path"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(NotSupported) as caught:
        parse_dockerfile(f"FROM a\n{text}")
    assert str(caught.value).startswith("Dockerfile:2: ")
    assert name in str(caught.value).splitlines()[0]
    assert isinstance(caught.value, DockerfileNotSupported)
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ["COPY --link=false a b", "COPY http://x y", "ADD a@b c", "ADD a:b c", "ADD $url /x"])
def test_what_only_looks_so_is_not(text: str) -> None:
    assert isinstance(only(text), of.Copy)


def test_a_source_of_ADD_may_turn_out_to_be_remote_when_expanded() -> None:
    add = only("ADD $url /x")
    check_sources(("a.tar",), add.place)
    with pytest.raises(NotSupported, match=r"^Dockerfile:2: ADD https://x:"):
        check_sources(("https://x",), add.place)


def test_a_place_has_lines_text_and_code() -> None:
    text = "FROM a\nRUN a \\\n  # c\n  b <<E\nbody\nE\nRUN x\n"
    run, after = parse_dockerfile(text).stages[0].instructions
    assert run.place == of.Place(first=2, last=6, text="RUN a \\\n  # c\n  b <<E\nbody\nE", code="RUN a   b <<E")
    assert (after.place.first, after.place.last) == (7, 7)


def test_warnings_have_lines() -> None:
    warnings = parse_dockerfile("FROM a\nRUN a \\\n\n  b\nRUN c\n").warnings
    assert warnings == (of.Warning_(line=4, text="Empty continuation line found in: RUN a   b"),)


def test_the_syntax_directive_is_kept() -> None:
    assert parse_dockerfile("# syntax = docker/dockerfile:1 \nFROM a").syntax == "docker/dockerfile:1"
    assert parse_dockerfile("# check=skip=all\n# syntax=x\nFROM a").syntax == "x"
    assert parse_dockerfile("FROM a\n# syntax=x\n").syntax is None


def test_bytes_that_are_not_text_are_replaced_with_a_warning() -> None:
    dockerfile = parse_dockerfile(b"FROM a\nMAINTAINER Jos\xe9\n")
    assert dockerfile.stages[0].instructions[0] == of.Maintainer(
        place=of.Place(first=2, last=2, text="MAINTAINER Jos\ufffd", code="MAINTAINER Jos\ufffd"), name="Jos\ufffd"
    )
    assert [warning.line for warning in dockerfile.warnings] == [2]


def test_bytes_that_are_not_text_stay_in_a_file() -> None:
    copy = parse_dockerfile(b"FROM a\nCOPY <<E /x\nJos\xe9\r\n\0\nE\n").stages[0].instructions[0]
    assert isinstance(copy, of.Copy)
    assert copy.heredocs[0].content.encode("utf-8", "surrogateescape") == b"Jos\xe9\r\n\0\n"


@pytest.mark.parametrize("body", [b"Jos\xe9", b"a\0b"])
def test_but_not_in_a_command(body: bytes) -> None:
    with pytest.raises(DockerfileError, match="not UTF-8 text"):
        parse_dockerfile(b"FROM a\nRUN <<E\n" + body + b"\nE\n")


# -- here-documents of RUN: the arguments that BuildKit gives to /bin/sh -c ----------------------------------------


@pytest.mark.parametrize(
    ("text", "argument", "content"),
    [
        ("RUN <<E\necho $a\nE", "echo $a\n", ""),
        ("RUN << E\nx\nE", "x\n", ""),
        ("RUN <<E\n#!/bin/sh\nfoo\nE", "/dev/pipes/E", "#!/bin/sh\nfoo\n"),
        ("RUN <<-E\n#!/bin/sh\n\tfoo\n\tE", "/dev/pipes/E", "#!/bin/sh\nfoo\n"),
        ('RUN <<-"E"\n\t\ta\n\tb\n\tE', "a\nb\n", ""),
        ("RUN <<-E cat\n\thi\n\tE", "<<-E cat\n\thi\nE", ""),
        ("RUN cat <<A <<-B > x\n1\nA\n\t2\n\tB", "cat <<A <<-B > x\n1\nA\n\t2\nB", ""),
        ("RUN x", "x", ""),
        ("RUN", "", ""),
    ],
)
def test_the_script_of_a_RUN(text: str, argument: str, content: str) -> None:
    run = only(text)
    assert isinstance(run, of.Run)
    script = run_script(run.command)
    assert (script.argument, script.content) == (argument, content)
    assert (script.file is not None) is bool(content)


# -- triggers ------------------------------------------------------------------------------------------------------


def test_a_trigger_is_an_instruction_at_the_place_of_FROM() -> None:
    place = of.Place(first=7, last=7, text="FROM x")
    trigger = parse_trigger("COPY <<E /x\nhi\nE", place)
    assert isinstance(trigger, of.Copy)
    assert trigger.heredocs[0].content == "hi\n"
    assert trigger.place.first == 7


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("RUNN x", r"Dockerfile:7: unknown instruction: RUNN \(did you mean RUN\?\)"),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("", "onbuild trigger should be a single expression"),
    ],
)
def test_a_wrong_trigger(expression: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        parse_trigger(expression, of.Place(first=7, last=7, text="FROM x"))


def test_an_ONBUILD_can_be_parsed_again() -> None:
    onbuild = only("ONBUILD  COPY <<-E /x\n\thi\n\tE")
    assert isinstance(onbuild, of.Onbuild)
    assert onbuild.expression == "COPY <<-E /x\n\thi\nE"
    trigger = parse_trigger(onbuild.expression)
    assert isinstance(trigger, of.Copy)
    assert trigger.heredocs[0].content == "hi\n"
