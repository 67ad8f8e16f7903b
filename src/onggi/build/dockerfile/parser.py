"""A Dockerfile as instructions: BuildKit's parser, its rules and its texts.

`statements.py` finds the instructions, `words.py` and `flags.py` take them apart;
here each becomes a value of its type. Nothing is expanded.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import MILLISECOND, parse_duration

from . import flags as known
from . import instructions as of
from .errors import DockerfileError, NotDone, Wrong, error_at, not_supported_at
from .expand import ExpansionError, expand
from .flags import Flags
from .heredocs import chomped, is_heredoc, parse_heredoc
from .mounts import parse_mount_spec
from .quoting import quote, without_surrogates
from .sources import refuse_remote
from .spaces import split_words, trim, trim_left
from .statements import Reader, Statement
from .suggest import did_you_mean
from .words import parse_healthcheck, parse_json, parse_pairs, parse_words, split_command

_NETWORKS: Final = ("default", "none", "host")
_NOT_TRIGGERS: Final = ("FROM", "MAINTAINER")
_NAME_START: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_NAME: Final = _NAME_START | frozenset("0123456789-_.")
_FROM_AS: Final = 3
_FROM_TO: Final = 2
_INT32: Final = 2**31


def parse_dockerfile(text: bytes | str, *, name: str = "Dockerfile") -> of.Dockerfile:
    """Parse a Dockerfile that errors call `name`. Raises DockerfileError, NotSupported."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if not data:
        raise DockerfileError(f"{name}: the Dockerfile cannot be empty; its first instruction is FROM")
    reader = Reader(data, name)
    meta: list[of.Arg] = []
    stages: list[tuple[of.From, list[of.Instruction]]] = []
    seen = False
    for statement in reader.statements():
        seen = True
        instruction = _parse_at(statement, reader.escape, name)
        if isinstance(instruction, of.From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, of.Arg):
            meta.append(instruction)
        else:
            raise error_at(name, statement.place, "no build stage in current context; FROM comes first")
    if not seen:
        raise DockerfileError(f"{name}: file with no instructions; its first one is FROM")
    if not stages:
        raise DockerfileError(f"{name}: dockerfile contains no stages to build; add a FROM")
    return of.Dockerfile(
        meta_args=tuple(meta),
        stages=tuple(of.Stage(from_=first, instructions=tuple(rest)) for first, rest in stages),
        escape=reader.escape,
        syntax=reader.directives.get("syntax"),
        warnings=tuple(reader.warnings),
    )


def parse_trigger(
    expression: str, place: of.Place | None = None, *, escape: str = "\\", name: str = "Dockerfile"
) -> of.Instruction:
    """Parse what ONBUILD kept, in an image built from that one; `place` is that of the FROM, for errors.

    The escape character is a backslash: BuildKit does not keep the directive of the
    Dockerfile that had the ONBUILD, nor does it use this one's. Raises DockerfileError.
    """
    reader = Reader(expression.encode("utf-8", "surrogateescape"), name)
    reader.escape = escape
    statements = list(reader.statements())
    if len(statements) != 1:
        raise DockerfileError(f"onbuild trigger should be a single expression, and {quote(expression)} is not")
    statement = statements[0]
    if place is not None:
        own = msgspec.structs.replace(statement.place, first=place.first, last=place.last)
        statement = msgspec.structs.replace(statement, place=own)
    instruction = _parse_at(statement, escape, name)
    if isinstance(instruction, of.From | of.Onbuild | of.Maintainer):
        raise error_at(name, statement.place, f"{statement.command.upper()} isn't allowed as an ONBUILD trigger")
    return instruction


def _parse_at(statement: Statement, escape: str, name: str) -> of.Instruction:
    try:
        return _parse(statement, escape)
    except Wrong as wrong:
        raise error_at(name, statement.place, str(wrong)) from None
    except NotDone as not_done:
        raise not_supported_at(name, statement.place, str(not_done)) from None


def _parse(statement: Statement, escape: str) -> of.Instruction:
    parse = _PARSERS.get(statement.command.upper())
    if parse is None:
        text = f"unknown instruction: {statement.command}"
        raise Wrong(did_you_mean(text, statement.command, sorted(_PARSERS), any_case=True))
    return parse(statement, escape)


# -- instructions of words -----------------------------------------------------------------------------------------


def _from(statement: Statement, _escape: str) -> of.From:
    words = split_words(statement.rest)
    stage: str | None = None
    if len(words) == _FROM_AS and words[1].lower() == "as":
        stage = words[2].lower()
        if stage[0] not in _NAME_START or set(stage) - _NAME:
            raise Wrong(
                f"invalid name for build stage: {quote(words[2])}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise Wrong("FROM requires either one or three arguments")
    flags = Flags(statement.flags, known.FROM_FLAGS)
    return of.From(place=statement.place, base=words[0], name=stage, platform=flags.text("platform"))


def _arg(statement: Statement, escape: str) -> of.Arg:
    words = parse_words(statement.rest, escape)
    if not words:
        raise Wrong("ARG requires at least one argument")
    names: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and not name:
            raise Wrong("ARG names can not be blank")
        names.append((name, value if equals else None))
    return of.Arg(place=statement.place, names=tuple(names))


def _env(statement: Statement, escape: str) -> of.Env:
    Flags(statement.flags, known.NO_FLAGS)
    return of.Env(place=statement.place, pairs=parse_pairs("ENV", statement.rest, escape))


def _label(statement: Statement, escape: str) -> of.Label:
    Flags(statement.flags, known.NO_FLAGS)
    return of.Label(place=statement.place, pairs=parse_pairs("LABEL", statement.rest, escape))


def _one(statement: Statement) -> str:
    """Give the one argument of an instruction: the rest of its line, whatever it holds."""
    if not statement.rest:
        raise Wrong(f"{statement.command.upper()} requires exactly one argument")
    return statement.rest


def _workdir(statement: Statement, _escape: str) -> of.Workdir:
    path = _one(statement)
    Flags(statement.flags, known.NO_FLAGS)
    return of.Workdir(place=statement.place, path=path)


def _user(statement: Statement, _escape: str) -> of.User:
    user = _one(statement)
    Flags(statement.flags, known.NO_FLAGS)
    return of.User(place=statement.place, user=user)


def _stopsignal(statement: Statement, _escape: str) -> of.StopSignal:
    return of.StopSignal(place=statement.place, signal=_one(statement))


def _maintainer(statement: Statement, _escape: str) -> of.Maintainer:
    name = _one(statement)
    Flags(statement.flags, known.NO_FLAGS)
    return of.Maintainer(place=statement.place, name=name)


def _expose(statement: Statement, _escape: str) -> of.Expose:
    ports = split_words(statement.rest)
    if not ports:
        raise Wrong("EXPOSE requires at least one argument")
    Flags(statement.flags, known.NO_FLAGS)
    return of.Expose(place=statement.place, ports=tuple(sorted(ports)))


def _volume(statement: Statement, _escape: str) -> of.VolumeInstruction:
    words = _list(statement)
    if not words:
        raise Wrong("VOLUME requires at least one argument")
    Flags(statement.flags, known.NO_FLAGS)
    paths = tuple(trim(word) for word in words)
    if not all(paths):
        raise Wrong("VOLUME specified can not be an empty string")
    return of.VolumeInstruction(place=statement.place, paths=paths)


def _onbuild(statement: Statement, escape: str) -> of.Onbuild:
    command, _, rest = split_command(statement.rest, escape)
    if not command:
        raise Wrong("ONBUILD requires at least one argument")
    if command.lower() in _JSON_FORMS:
        parse_json(rest)
    Flags(statement.flags, known.NO_FLAGS)
    trigger = command.upper()
    if trigger == "ONBUILD":
        raise Wrong("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _NOT_TRIGGERS:
        raise Wrong(f"{trigger} isn't allowed as an ONBUILD trigger")
    expression = trim_left(statement.place.code)[len("ONBUILD") :].lstrip("\t\n\f\r ")
    bodies = "".join(f"\n{doc.content}{doc.name}" for doc in statement.heredocs)
    return of.Onbuild(place=statement.place, expression=without_surrogates(expression + bodies))


def _list(statement: Statement) -> tuple[str, ...]:
    """Read a JSON array, or words."""
    words = parse_json(statement.rest)
    return tuple(split_words(statement.rest)) if words is None else words


# -- commands ------------------------------------------------------------------------------------------------------


def _command(rest: str, heredocs: tuple[of.Heredoc, ...] = ()) -> of.CommandForm:
    words = parse_json(rest)
    if words is not None:
        return of.CommandForm(words=words, shell=False)
    return of.CommandForm(words=(rest,) if rest else (), shell=True, heredocs=heredocs)


def _run(statement: Statement, _escape: str) -> of.Run:
    command = _command(statement.rest, statement.heredocs)
    flags = Flags(statement.flags, known.RUN_FLAGS)
    for name in ("device", "security"):
        if flags.every(name):
            raise NotDone(f"RUN --{name} is not supported by this version of Onggi")
    if any(without_surrogates(doc.content) != doc.content or "\0" in doc.content for doc in statement.heredocs):
        raise Wrong("the here-document is not UTF-8 text, which a command must be")
    network = flags.text("network")
    if network is not None and network not in _NETWORKS:
        raise Wrong(did_you_mean(f"invalid network mode {quote(network)}", network, _NETWORKS))
    mounts = tuple(parse_mount_spec(text) for text in flags.every("mount"))
    return of.Run(place=statement.place, command=command, mounts=mounts, network=network)


def _cmd(statement: Statement, _escape: str) -> of.Cmd:
    command = _command(statement.rest)
    Flags(statement.flags, known.NO_FLAGS)
    return of.Cmd(place=statement.place, command=command)


def _entrypoint(statement: Statement, _escape: str) -> of.Entrypoint:
    command = _command(statement.rest)
    Flags(statement.flags, known.NO_FLAGS)
    return of.Entrypoint(place=statement.place, command=command)


def _shell(statement: Statement, _escape: str) -> of.Shell:
    Flags(statement.flags, known.NO_FLAGS)
    words = parse_json(statement.rest)
    if words is None and statement.rest:
        raise Wrong('SHELL requires the arguments to be in JSON form, as in SHELL ["/bin/bash", "-c"]')
    if not words:
        raise Wrong("SHELL requires at least one argument")
    return of.Shell(place=statement.place, words=words)


def _healthcheck(statement: Statement, _escape: str) -> of.HealthcheckInstruction:
    kind, rest = parse_healthcheck(statement.rest)
    if not kind:
        raise Wrong("HEALTHCHECK requires at least one argument")
    command = _command(rest)
    if kind.upper() == "NONE":
        if command.words:
            raise Wrong("HEALTHCHECK NONE takes no arguments")
        return of.HealthcheckInstruction(place=statement.place, command=None)
    flags = Flags(statement.flags, known.HEALTHCHECK_FLAGS)
    if kind.upper() != "CMD":
        raise Wrong(f"Unknown type {quote(kind.upper())} in HEALTHCHECK (try CMD)")
    if not command.words:
        raise Wrong("Missing command after HEALTHCHECK CMD")
    return of.HealthcheckInstruction(
        place=statement.place,
        command=command,
        interval_ns=_interval(flags, "interval"),
        timeout_ns=_interval(flags, "timeout"),
        start_period_ns=_interval(flags, "start-period"),
        start_interval_ns=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if text is None:
        return 0
    try:
        duration = parse_duration(text)
    except InvalidArgument as error:
        raise Wrong(str(error)) from None
    if duration and duration < MILLISECOND:
        raise Wrong(f"Interval {quote(name)} cannot be less than 1ms")
    return duration


def _retries(text: str | None) -> int:
    if text is None:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise Wrong(f"--retries takes a number: parsing {quote(text)}: invalid syntax")
    number = int(text[:20])
    if not -_INT32 <= number < _INT32:
        raise Wrong(f"--retries takes a number: parsing {quote(text)}: value out of range")
    if number < 0:
        raise Wrong(f"--retries cannot be negative ({number})")
    return number


# -- files ---------------------------------------------------------------------------------------------------------


def _copy(statement: Statement, _escape: str) -> of.Copy:
    return _files(statement, "COPY")


def _add(statement: Statement, _escape: str) -> of.Copy:
    return _files(statement, "ADD")


def _files(statement: Statement, command: str) -> of.Copy:
    words = _list(statement)
    if len(words) < _FROM_TO:
        raise Wrong(
            f"{command} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    flags = Flags(statement.flags, known.ADD_FLAGS if command == "ADD" else known.COPY_FLAGS)
    _check_origin(flags.text("from"))
    for name in ("link", "parents", "keep-git-dir"):
        if flags.switch(name):
            raise NotDone(f"{command} --{name} is not supported by this version of Onggi; remove the flag")
    if flags.text("checksum"):
        raise NotDone("ADD --checksum is not supported by this version of Onggi, as ADD of URLs is not")
    *sources, destination = words
    if is_heredoc(destination):
        raise Wrong(f"{command} cannot accept a heredoc as a destination")
    if command == "ADD":
        refuse_remote(sources)
    return of.Copy(
        place=statement.place,
        add=command == "ADD",
        sources=tuple(source for source in sources if not is_heredoc(source)),
        heredocs=tuple(_body(parse_heredoc(word), statement) for word in sources if is_heredoc(word)),
        destination=destination,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        exclude=flags.every("exclude"),
        unpack=flags.switch("unpack"),
    )


def _check_origin(text: str | None) -> None:
    """Refuse variables in --from: which stages are needed has to be known before any of them is followed."""
    try:
        found = expand(text or "", {})
    except ExpansionError as error:
        raise Wrong(str(error)) from None
    if found.matched or found.unmatched:
        raise Wrong(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope "
            "as a workaround"
        )


def _body(named: of.Heredoc | None, statement: Statement) -> of.Heredoc:
    """Give the here-document that a source names, with its body; in JSON form there is none."""
    assert named is not None, "is_heredoc said so"
    contents = {doc.name: doc.content for doc in statement.heredocs}
    content = contents.get(named.name, "")
    return msgspec.structs.replace(named, content=chomped(content) if named.chomp else content)


_JSON_FORMS: Final = frozenset({"add", "cmd", "copy", "entrypoint", "run", "shell", "volume"})
"""Instructions whose JSON form has strings only, be it behind ONBUILD."""

_PARSERS: Final[dict[str, Callable[[Statement, str], of.Instruction]]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
INSTRUCTIONS: Final = tuple(_PARSERS)
"""The eighteen instructions."""
