"""Whatever the bytes, a Dockerfile is parsed or explained; what was parsed is the same when parsed again."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onggi.base.errors import OnggiError
from onggi.build.dockerfile import instructions as of
from onggi.build.dockerfile.errors import DockerfileError
from onggi.build.dockerfile.mounts import parse_mounts
from onggi.build.dockerfile.parser import INSTRUCTIONS, parse_dockerfile, parse_trigger

PIECES = st.sampled_from(
    (
        *(f"{name} " for name in INSTRUCTIONS),
        *("from a\n", "\n", "\r\n", "\\\n", "`\n", "# escape=`\n", "#", " ", "\t", '"', "'", "[", "]", "{", "$x", "${"),
        *("<<E ", "<<-E ", "<<'E' ", "\nE\n", "=", "a=b ", "--from=x ", "--mount=type=cache,target=/x ", "--", ","),
        *(
            '["a", "b"]',
            "[1]",
            "[[",
            "CMD ",
            "NONE ",
            "\0",
            "\ufeff",
            "한",
            "\u00a0",
            "\\",
            "\\ud800",
            "1e999",
            "80/tcp ",
        ),
    )
)
TEXTS = st.lists(PIECES, max_size=24).map(lambda parts: f"FROM a\n{''.join(parts)}")


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=200), TEXTS.map(str.encode)))
@example(b"FROM a\nRUN " + b"[" * 100_000)
@example(b"FROM a\nCMD [" + b"1" * 5000 + b"]")
@example(b"FROM a\nCOPY <<E \xff\n\xfe\nE\n")
@example(b"\xef\xbb\xbf\xef\xbb\xbfFROM a")
def test_any_bytes_are_parsed_or_explained(data: bytes) -> None:
    try:
        dockerfile = parse_dockerfile(data)
    except OnggiError as error:
        problem: OnggiError = error
    else:
        _check(data, dockerfile)
        return
    assert str(problem).startswith("Dockerfile:")
    if isinstance(problem, DockerfileError):
        assert 0 <= problem.line <= data.count(b"\n") + 1


def _check(data: bytes, dockerfile: of.Dockerfile) -> None:
    assert parse_dockerfile(data) == dockerfile
    for stage in dockerfile.stages:
        for instruction in (stage.from_, *stage.instructions):
            assert 1 <= instruction.place.first <= instruction.place.last <= data.count(b"\n") + 1
            instruction.place.text.encode()  # no half characters


@given(TEXTS)
def test_each_instruction_alone_means_the_same(text: str) -> None:
    """The text of an instruction, parsed by itself, gives the same instruction."""
    try:
        dockerfile = parse_dockerfile(text)
    except OnggiError:
        return
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            directive = "# escape=`\n" if dockerfile.escape == "`" else ""
            (again,) = parse_dockerfile(f"{directive}FROM a\n{instruction.place.text}\n").stages[0].instructions
            assert _without_place(again) == _without_place(instruction)


def _without_place(instruction: of.Instruction) -> list[object]:
    return [getattr(instruction, name) for name in instruction.__struct_fields__ if name != "place"]


@given(TEXTS)
def test_mounts_and_triggers_are_read_or_explained(text: str) -> None:
    try:
        for stage in parse_dockerfile(text).stages:
            for instruction in stage.instructions:
                if isinstance(instruction, of.Run):
                    parse_mounts(instruction, str, workdir="/")
                elif isinstance(instruction, of.Onbuild):
                    parse_trigger(instruction.expression, stage.from_.place)
    except OnggiError as error:
        explanation = str(error)
    else:
        explanation = "fine"
    assert explanation
