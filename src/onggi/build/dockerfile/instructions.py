"""The eighteen instructions of a Dockerfile as values (Dockerfile reference, BuildKit's instructions package).

Texts are as written: nothing is expanded here, since what a variable is depends on
where the instruction stands. `expand.py` says which fields are expanded and how.
"""

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instruction stands: first and last line, counted from 1, and its text as in the file.

    `code` is the same in one line: continuations joined, without comments and bodies of here-documents.
    """

    first: int
    last: int
    text: str
    code: str = ""


class Heredoc(msgspec.Struct, frozen=True, kw_only=True):
    """A here-document: its name, body, whether the body is expanded, and whether `<<-` cut leading tabs.

    Of COPY and ADD the tabs are cut already; RUN has the body as written, for
    `heredocs.run_script`. Bytes that are not UTF-8 are kept by `surrogateescape`.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """`--name=value`; a flag without value has None."""

    name: str
    value: str | None = None


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all."""

    place: Place


class CommandForm(msgspec.Struct, frozen=True, kw_only=True):
    """A command: exec form has the words of a JSON array, shell form one line. With heredocs, shell form."""

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


class From(Instruction, frozen=True, kw_only=True):
    """FROM [--platform=P] base [AS name]."""

    base: str
    name: str | None = None
    platform: str | None = None


class Arg(Instruction, frozen=True, kw_only=True):
    """ARG name[=default] …"""

    names: tuple[tuple[str, str | None], ...]


class Env(Instruction, frozen=True, kw_only=True):
    """ENV key=value …, or the old form ENV key value."""

    pairs: tuple[tuple[str, str], ...]


class Label(Instruction, frozen=True, kw_only=True):
    """LABEL key=value …"""

    pairs: tuple[tuple[str, str], ...]


class MountSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One RUN --mount: its keys and values as written, in order; a key without `=` has None."""

    fields: tuple[tuple[str, str | None], ...]


class Run(Instruction, frozen=True, kw_only=True):
    """RUN [--mount=…] [--network=…] command."""

    command: CommandForm
    mounts: tuple[MountSpec, ...] = ()
    network: str | None = None


class Copy(Instruction, frozen=True, kw_only=True):
    """COPY or ADD: sources, then the destination; a heredoc is a source that brings its content."""

    add: bool
    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    destination: str
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    unpack: bool | None = None


class Workdir(Instruction, frozen=True, kw_only=True):
    """WORKDIR path."""

    path: str


class User(Instruction, frozen=True, kw_only=True):
    """USER name[:group]."""

    user: str


class Cmd(Instruction, frozen=True, kw_only=True):
    """CMD."""

    command: CommandForm


class Entrypoint(Instruction, frozen=True, kw_only=True):
    """ENTRYPOINT."""

    command: CommandForm


class Shell(Instruction, frozen=True, kw_only=True):
    """SHELL ["…"]."""

    words: tuple[str, ...]


class Expose(Instruction, frozen=True, kw_only=True):
    """EXPOSE port[/proto] …"""

    ports: tuple[str, ...]


class VolumeInstruction(Instruction, frozen=True, kw_only=True):
    """VOLUME path …"""

    paths: tuple[str, ...]


class StopSignal(Instruction, frozen=True, kw_only=True):
    """STOPSIGNAL signal."""

    signal: str


class HealthcheckInstruction(Instruction, frozen=True, kw_only=True):
    """HEALTHCHECK [--interval … ] CMD command, or NONE. Times in nanoseconds; 0 is inherited."""

    command: CommandForm | None
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


class Onbuild(Instruction, frozen=True, kw_only=True):
    """ONBUILD instruction: kept as text for the image that is built from this one."""

    expression: str


class Maintainer(Instruction, frozen=True, kw_only=True):
    """MAINTAINER name (deprecated)."""

    name: str


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One FROM and what follows it."""

    from_: From
    instructions: tuple[Instruction, ...]


class Warning_(msgspec.Struct, frozen=True, kw_only=True):
    """Something legal but doubtful: `line`, and a sentence."""

    line: int
    text: str


class Dockerfile(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed Dockerfile: the ARGs before the first FROM, the stages, the escape character."""

    meta_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    syntax: str | None = None
    warnings: tuple[Warning_, ...] = ()
