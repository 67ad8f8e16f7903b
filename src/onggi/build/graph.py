"""A Dockerfile as a graph: what each stage does to the file system, and what its image's config becomes. Pure.

Configs never depend on what a step does, so all of them, and every expanded text,
are known before anything runs. What remains are *steps*: the instructions that
change files. A step sees the files of the step before it, what it copies or mounts
from elsewhere, and the few things that its key (cachekey.py) is made of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

import onggi.build.dockerfile.printing as printing
from onggi.base.errors import InvalidArgument, NotFound
from onggi.build.dockerfile.errors import DockerfileError, error_at, not_supported_at
from onggi.build.dockerfile.expand import ExpansionError, Lexer, expand_word, expand_words
from onggi.build.dockerfile.heredocs import SCRIPT_DIRECTORY, run_script
from onggi.build.dockerfile.instructions import (
    Arg,
    Cmd,
    CommandForm,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    HealthcheckInstruction,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Place,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    VolumeInstruction,
    Workdir,
)
from onggi.build.dockerfile.mounts import BuildMount, parse_mounts
from onggi.build.dockerfile.parser import parse_trigger
from onggi.build.dockerfile.ports import parse_ports
from onggi.build.dockerfile.quoting import quote
from onggi.build.dockerfile.signals import is_signal
from onggi.build.dockerfile.sources import check_sources
from onggi.spec.image_config import ContainerConfig, Healthcheck, History, ImageConfig
from onggi.spec.platform import Platform

SCRATCH: Final = "scratch"
COMMENT: Final = "buildkit.dockerfile.v0"
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL: Final = ("/bin/sh", "-c")
PROXY_ARGS: Final = frozenset(
    name
    for base in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (base, base.lower())
)
EPOCH: Final = "SOURCE_DATE_EPOCH"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is asked for besides its Dockerfile. `args` are the --build-arg that have a value."""

    args: Mapping[str, str] = {}
    target: str | None = None
    labels: Mapping[str, str] = {}
    network: str = "default"
    hosts: tuple[str, ...] = ()
    contexts: frozenset[str] = frozenset()  # names that --build-context gives a directory
    replaced: frozenset[str] = frozenset()  # every name that --build-context gives something: it goes before a stage
    platform: Platform
    build_platform: Platform
    epoch: int | None = None  # SOURCE_DATE_EPOCH
    name: str = "Dockerfile"  # what errors call the file


class BaseImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a stage starts from or copies from: what the resolver found."""

    name: str
    id: str
    config: ImageConfig
    layers: tuple[str, ...]
    unknown: dict[str, object] = {}


Resolve = Callable[[str, Platform], BaseImage]
"""Find an image by the name in FROM or --from. Raises NotFound."""


class FromStage(msgspec.Struct, frozen=True):
    """The files of another stage, as they are at its end."""

    stage: int


class FromImage(msgspec.Struct, frozen=True):
    """The files of an image."""

    image: BaseImage


class FromContext(msgspec.Struct, frozen=True):
    """The files of a context; "" is the build's own."""

    name: str = ""


class FromNothing(msgspec.Struct, frozen=True):
    """No files."""


Files = FromStage | FromImage | FromContext | FromNothing


class RunStep(msgspec.Struct, frozen=True, kw_only=True):
    """A command in a container.

    `script` is an executable file (path, content) that is there while it runs; `args`
    names the variables that are build arguments; `proxies` are no part of its key.
    """

    argv: tuple[str, ...]
    script: tuple[str, str] | None = None
    env: tuple[str, ...]
    args: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    user: str
    workdir: str
    network: str
    mounts: tuple[tuple[BuildMount, Files | None], ...] = ()
    hosts: tuple[str, ...] = ()


class CopyStep(msgspec.Struct, frozen=True, kw_only=True):
    """Files from elsewhere. `destination` is absolute; it ends in a slash where a directory is meant."""

    add: bool
    files: Files
    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    destination: str
    chown: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    unpack: bool = False


class WorkdirStep(msgspec.Struct, frozen=True, kw_only=True):
    """A directory, made where it is missing, owned by the user of the time."""

    path: str
    user: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One change of files, as it is shown, where it stands, and what it does."""

    title: str
    place: Place
    action: RunStep | CopyStep | WorkdirStep
    config: ContainerConfig


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A stage: the files it starts from, its steps, the config of its image, and the history of all its instructions.

    `history[n]` is None where the n-th entry waits for step times; entries of steps
    come in the order of the steps.
    """

    index: int
    name: str
    base: FromStage | FromImage | FromNothing
    base_config: ImageConfig
    steps: tuple[Step, ...]
    config: ContainerConfig
    history: tuple[History, ...]
    platform: Platform
    author: str | None
    unknown: dict[str, object]


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The stages that the target needs, by index; `unused` are build arguments that nothing declared."""

    stages: Mapping[int, StagePlan]
    target: int
    unused: tuple[str, ...] = ()
    name: str = "Dockerfile"


def plan_graph(dockerfile: Dockerfile, options: Options, resolve: Resolve) -> Graph:
    """Plan every stage that the target needs. Raises InvalidArgument, NotFound; both name the line."""
    planner = _Planner(dockerfile, options, resolve)
    target = planner.find_target()
    planner.stage(target)
    unused = tuple(name for name in options.args if name not in {*planner.used, *PROXY_ARGS, EPOCH})
    return Graph(stages=planner.done, target=target, unused=unused, name=options.name)


class _Planner:
    def __init__(self, dockerfile: Dockerfile, options: Options, resolve: Resolve) -> None:
        self.dockerfile, self.options, self.resolve = dockerfile, options, resolve
        self.done: dict[int, StagePlan] = {}
        self.used: set[str] = set()
        self.names = {
            stage.from_.name.lower(): number
            for number, stage in enumerate(dockerfile.stages)
            if stage.from_.name and stage.from_.name not in options.replaced
        }
        self.scopes: dict[int, tuple[dict[str, str], dict[str, str]]] = {}
        self.meta = self._meta_args()

    def platform_args(self, platform: Platform) -> dict[str, str]:
        """The arguments that BuildKit sets by itself; a bare ARG brings them into a stage."""
        build = self.options.build_platform
        return {
            "TARGETPLATFORM": str(platform),
            "TARGETOS": platform.os,
            "TARGETARCH": platform.architecture,
            "TARGETVARIANT": platform.variant or "",
            "BUILDPLATFORM": str(build),
            "BUILDOS": build.os,
            "BUILDARCH": build.architecture,
            "BUILDVARIANT": build.variant or "",
            "TARGETSTAGE": self.options.target or "default",
        }

    def _meta_args(self) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for arg in self.dockerfile.meta_args:
            for name, default in arg.names:
                self.used.add(name)
                known = {**self.platform_args(self.options.platform), **_known(values)}
                value = self.expand(default, known, arg.place) if default is not None else None
                values[name] = self.options.args.get(name, value)
        return values

    def expand(self, text: str, scope: Mapping[str, str], place: Place, *, raw: bool = False) -> str:
        """Expand a word at a place of the file, which an error names."""
        try:
            return expand_word(text, scope, escape=self.dockerfile.escape, raw=raw)
        except ExpansionError as error:
            raise error_at(self.options.name, place, str(error)) from None

    def find_target(self) -> int:
        """Find the stage to build: the last one, or the one of that name; a number is none, with BuildKit."""
        target = self.options.target
        if target is None:
            return len(self.dockerfile.stages) - 1
        if target.lower() in self.names:
            return self.names[target.lower()]
        near = ", ".join(sorted(self.names)) or "none has a name"
        raise NotFound(f"target stage {quote(target)} could not be found; stages of {self.options.name}: {near}")

    def stage(self, index: int) -> StagePlan:
        """Plan a stage, once."""
        if index not in self.done:
            self.done[index] = _StagePlanner(self, index).plan()
        return self.done[index]


def _known(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


class _StagePlanner:
    """Follows one stage from its FROM to its last instruction."""

    def __init__(self, planner: _Planner, index: int) -> None:
        self.planner, self.index = planner, index
        self.source: Stage = planner.dockerfile.stages[index]
        self.options = planner.options
        self.escape = planner.dockerfile.escape
        self.name = self.source.from_.name or (f"stage-{index}" if len(planner.dockerfile.stages) > 1 else "")
        self.steps: list[Step] = []
        self.history: list[History] = []
        self.args: dict[str, str] = {}  # every ARG so far, by first declaration
        self.env: dict[str, str] = {}  # ENV and ARG are one scope; the later one wins
        self.place = self.source.from_.place
        self.author: str | None = None
        self.cmd_set = False

    def plan(self) -> StagePlan:
        place = self.source.from_.place
        meta = {**self.planner.platform_args(self.options.platform), **_known(self.planner.meta)}
        self.platform = self._platform(meta)
        base = self.planner.expand(self.source.from_.base, meta, place)
        if not base:
            raise self.error(f"base name ({self.source.from_.base}) should not be blank")
        files, image = self._base(base, place)
        self.base_config = image
        self.config = image.config or ContainerConfig()
        triggers = self.config.on_build or ()
        self.config = msgspec.structs.replace(self.config, on_build=None)
        if files == FromNothing():
            self.config = msgspec.structs.replace(self.config, working_dir="/")
        if not _has(self.config.env, "PATH"):
            self.config = msgspec.structs.replace(self.config, env=(*(self.config.env or ()), f"PATH={DEFAULT_PATH}"))
        self.env.update(_pairs(self.config.env))
        for trigger in triggers:
            self.apply(parse_trigger(trigger, place, name=self.options.name))
        for instruction in self.source.instructions:
            self.apply(instruction)
        if self.index == self._target() and self.options.labels:
            labels = {**(self.config.labels or {}), **self.options.labels}
            self.config = msgspec.structs.replace(self.config, labels=labels)
        self.planner.scopes[self.index] = self.env, self.args
        return StagePlan(
            index=self.index,
            name=self.name,
            base=files,
            base_config=image,
            steps=tuple(self.steps),
            config=self.config,
            history=(*(image.history or ()), *self.history),
            platform=self.platform,
            author=self.author or image.author,
            unknown=self.unknown,
        )

    def _target(self) -> int:
        return self.planner.find_target()

    def _platform(self, meta: Mapping[str, str]) -> Platform:
        from onggi.spec.platform import parse_platform

        text = self.source.from_.platform
        if text is None:
            return self.options.platform
        wanted = self.planner.expand(text, meta, self.place)
        return parse_platform(wanted, self.options.build_platform) if wanted else self.options.platform

    def _base(self, base: str, place: Place) -> tuple[FromStage | FromImage | FromNothing, ImageConfig]:
        self.unknown: dict[str, object] = {}
        number = self.planner.names.get(base.lower())
        if number is not None and number < self.index:
            stage = self.planner.stage(number)
            env, args = self.planner.scopes[number]
            self.env.update(env)
            self.args.update(args)
            self.unknown = stage.unknown
            config = msgspec.structs.replace(
                stage.base_config, config=stage.config, history=stage.history, author=stage.author
            )
            return FromStage(number), config
        if base == SCRATCH and base not in self.options.contexts:
            platform = self.platform
            from onggi.spec.image_config import RootFS

            return FromNothing(), ImageConfig(
                architecture=platform.architecture,
                os=platform.os,
                variant=platform.variant,
                rootfs=RootFS(type="layers"),
            )
        if base in self.options.contexts:
            text = f"FROM {base}: a directory as --build-context can be copied and mounted from, but not built upon yet"
            raise not_supported_at(self.options.name, place, text)
        image = self._resolve(base)
        self.unknown = image.unknown
        return FromImage(image), image.config

    def _resolve(self, name: str) -> BaseImage:
        try:
            return self.planner.resolve(name, self.platform)
        except NotFound as error:
            raise NotFound(str(self.error(str(error)))) from None

    def error(self, text: str) -> DockerfileError:
        """Make an error about the instruction of the time."""
        return error_at(self.options.name, self.place, text)

    # -- scope -------------------------------------------------------------------------------------
    # `self.env` is what `$name` means: BuildKit keeps arguments and environment in one place.

    def word(self, text: str) -> str:
        return self.planner.expand(text, self.env, self.place)

    # -- instructions ------------------------------------------------------------------------------

    def apply(self, instruction: Instruction) -> None:
        """Follow one instruction."""
        self.place = instruction.place
        match instruction:
            case Run():
                self._run(instruction)
            case Copy():
                self._copy(instruction)
            case Workdir():
                self._workdir(instruction)
            case Arg():
                self._arg(instruction)
            case Env():
                self._env(instruction)
            case Label():
                pairs = [(self.word(key), self.word(value)) for key, value in instruction.pairs]
                self.change(printing.label(pairs), labels={**(self.config.labels or {}), **dict(pairs)})
            case User():
                user = self.word(instruction.user)
                self.change(printing.user(user), user=user or None)
            case Cmd():
                words = self.command(instruction.command)
                self.cmd_set = True
                self.change(printing.cmd(words), cmd=words or None, args_escaped=True)
            case Entrypoint():
                words = self.command(instruction.command)
                changes: dict[str, object] = {"entrypoint": words or None}
                if not self.cmd_set:
                    changes["cmd"] = None
                self.change(printing.entrypoint(words), **changes)
            case Shell():
                self.change(printing.shell(instruction.words), shell=instruction.words)
            case Expose():
                ports = self._ports(instruction)
                exposed = {**(self.config.exposed_ports or {}), **{port: {} for port in ports}}
                self.change(printing.expose(ports), exposed_ports=exposed)
            case VolumeInstruction():
                paths = tuple(self.word(path) for path in instruction.paths)
                if not all(paths):
                    raise self.error("VOLUME specified can not be an empty string")
                volumes = {**(self.config.volumes or {}), **{path: {} for path in paths}}
                self.change(printing.volume(paths), volumes=volumes)
            case StopSignal():
                signal = self.word(instruction.signal)
                if not is_signal(signal):
                    raise self.error(f"invalid signal: {signal}")
                self.change(printing.stopsignal(signal), stop_signal=signal)
            case HealthcheckInstruction():
                self._healthcheck(instruction)
            case Onbuild():
                # No history entry: BuildKit has none either.
                on_build = (*(self.config.on_build or ()), instruction.expression)
                self.config = msgspec.structs.replace(self.config, on_build=on_build)
            case Maintainer():
                self.author = instruction.name
                self.note(printing.maintainer(instruction.name))
            case _:
                raise self.error(f"{type(instruction).__name__.upper()} cannot stand here")

    def change(self, created_by: str, **changes: object) -> None:
        """Change the config and note it."""
        self.config = msgspec.structs.replace(self.config, **changes)
        self.note(created_by)

    def note(self, created_by: str, *, layer: bool = False) -> None:
        """Add an entry of the history."""
        self.history.append(History(created_by=created_by, comment=COMMENT, empty_layer=None if layer else True))

    def command(self, form: CommandForm) -> tuple[str, ...]:
        """Give the words of a command; the shell form goes through the shell of the time."""
        if not form.shell:
            return form.words
        return (*(self.config.shell or DEFAULT_SHELL), *(form.words or ("",)))

    def _arg(self, instruction: Arg) -> None:
        printed: list[tuple[str, str | None]] = []
        inherited = {**self.planner.platform_args(self.platform), **_known(self.planner.meta)}
        for name, default in instruction.names:
            self.planner.used.add(name)
            if name in self.options.args:
                value: str | None = self.options.args[name]
            elif default is not None:
                value = self.word(default)
            else:
                value = inherited.get(name)
            if value is not None:
                self._set(name, value)
            self.args[name] = value or ""
            printed.append((name, value))
        self.note(printing.arg(printed))

    def _set(self, name: str, value: str) -> None:
        self.env.pop(name, None)
        self.env[name] = value

    def _env(self, instruction: Env) -> None:
        # All pairs of one line see the values from before the line.
        pairs = [(self.word(key), self.word(value)) for key, value in instruction.pairs]
        env = _pairs(self.config.env)
        env.update(pairs)
        for key, value in pairs:
            self._set(key, value)
        self.change(printing.env(pairs), env=tuple(f"{key}={value}" for key, value in env.items()))

    def _ports(self, instruction: Expose) -> tuple[str, ...]:
        try:
            return parse_ports(
                word for text in instruction.ports for word in expand_words(text, self.env, escape=self.escape)
            )
        except InvalidArgument as error:
            raise self.error(str(error)) from None

    def _healthcheck(self, instruction: HealthcheckInstruction) -> None:
        if instruction.command is None:
            check = Healthcheck(test=("NONE",))
        else:
            kind = "CMD-SHELL" if instruction.command.shell else "CMD"
            check = Healthcheck(
                test=(kind, *instruction.command.words),
                interval=instruction.interval_ns or None,
                timeout=instruction.timeout_ns or None,
                start_period=instruction.start_period_ns or None,
                start_interval=instruction.start_interval_ns or None,
                retries=instruction.retries or None,
            )
        self.change(printing.healthcheck(check), healthcheck=check)

    def _workdir(self, instruction: Workdir) -> None:
        path = self.word(instruction.path)
        path = _normal(path if path.startswith("/") else f"{self.config.working_dir or '/'}/{path}")
        self.config = msgspec.structs.replace(self.config, working_dir=path)
        makes = path != "/"
        if makes:
            self.step(WorkdirStep(path=path, user=self.config.user or ""))
        self.note(printing.workdir(path), layer=makes)

    def step(self, action: RunStep | CopyStep | WorkdirStep) -> None:
        self.steps.append(Step(title=self._title(), place=self.place, action=action, config=self.config))

    def _title(self) -> str:
        """Show the instruction as it stands, in one line, with the variables that are known put in."""
        words = self.place.code.split(None, 1)
        rest = words[1] if len(words) > 1 else ""
        lexer = Lexer(rest, self.env, escape=self.escape, raw_quotes=True, raw_escapes=True, skip_unset=True)
        return " ".join((words[0].upper() if words else "", *(lexer.text_or_none() or rest).split()))

    def _run(self, instruction: Run) -> None:
        form = instruction.command
        if not form.words and not form.shell:
            raise self.error("arguments are required")
        argv = self.command(form)
        file: tuple[str, str] | None = None
        if form.shell and form.heredocs:
            script = run_script(form)
            argv = (*argv[:-1], script.argument)
            if script.file is not None:
                file = (SCRIPT_DIRECTORY + script.file, script.content)
        mounts = tuple(
            (mount, self._mount_files(mount))
            for mount in parse_mounts(
                instruction, self.word, workdir=self.config.working_dir or "/", name=self.options.name
            )
        )
        network = instruction.network or "default"
        if network == "default":
            network = self.options.network
        run = RunStep(
            argv=argv,
            script=file,
            env=tuple(f"{name}={value}" for name, value in self.env.items()),
            args=tuple(self.args),
            proxies=tuple(
                f"{name}={value}"
                for name, value in self.options.args.items()
                if name in PROXY_ARGS and name not in self.env
            ),
            user=self.config.user or "",
            workdir=self.config.working_dir or "/",
            network=network,
            mounts=mounts,
            hosts=self.options.hosts,
        )
        self.step(run)
        declared = [(name, self.env.get(name, value)) for name, value in self.args.items()]
        self.note(printing.run(argv, declared), layer=True)

    def _mount_files(self, mount: BuildMount) -> Files | None:
        if mount.type == "tmpfs":
            return None
        if not mount.from_:
            return FromContext() if mount.type == "bind" else FromNothing()
        return self.files_of(mount.from_)

    def files_of(self, name: str) -> Files:
        """Find what --from means: a stage before this one, by name or number, a named context, or an image."""
        number = self.planner.names.get(name.lower())
        if number is None and name.isascii() and name.isdigit():
            number = int(name)
            if number >= len(self.planner.dockerfile.stages):
                raise self.error(f"invalid stage index {name}: this file has fewer")
        if number is not None:
            if number == self.index:
                raise self.error(f"circular dependency detected on stage: {self.name or f'stage-{number}'}")
            if number < self.index:
                self.planner.stage(number)
                return FromStage(number)
            if name.isdigit():
                raise self.error(f"invalid stage index {name}: only stages before this one can be copied from")
            raise self.error(
                f"cannot copy from stage {quote(name)}, it needs to be defined before current stage {quote(self.name)}"
            )
        if name in self.options.contexts:
            return FromContext(name)
        if name == SCRATCH:
            return FromNothing()
        return FromImage(self._resolve(name))

    def _copy(self, instruction: Copy) -> None:
        destination = self.word(instruction.destination)
        absolute = destination if destination.startswith("/") else f"{self.config.working_dir or '/'}/{destination}"
        normal = _normal(absolute)
        directory = destination.endswith(("/", "/.", "/..")) or destination in (".", "", "..")
        sources = tuple(self.word(text) for text in instruction.sources)
        if instruction.add:
            check_sources(sources, self.place, name=self.options.name)
        files: Files = FromContext() if sources else FromNothing()
        if instruction.from_:
            files = self.files_of(instruction.from_)
        heredocs = tuple(
            msgspec.structs.replace(doc, content=self.planner.expand(doc.content, self.env, self.place, raw=True))
            if doc.expand
            else doc
            for doc in instruction.heredocs
        )
        chown = self.word(instruction.chown) if instruction.chown else None
        chmod = self.word(instruction.chmod) if instruction.chmod else None
        copy = CopyStep(
            add=instruction.add,
            files=files,
            sources=sources,
            heredocs=heredocs,
            destination=normal if normal == "/" or not directory else f"{normal}/",
            chown=chown,
            chmod=chmod,
            exclude=instruction.exclude,
            unpack=instruction.add if instruction.unpack is None else instruction.unpack,
        )
        self.step(copy)
        names = (*sources, *(f"<<{doc.name}" for doc in instruction.heredocs))
        self.note(printing.copy(instruction, names, destination, chown=chown, chmod=chmod), layer=True)


def _pairs(env: Sequence[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in env or ())}


def _has(env: Sequence[str] | None, name: str) -> bool:
    return any(entry.startswith(f"{name}=") for entry in env or ())


def _normal(path: str) -> str:
    """Clean a path as Go's path.Join does."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
