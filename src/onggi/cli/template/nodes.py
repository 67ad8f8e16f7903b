"""The parts of a parsed template; `str()` gives each as Go writes it in errors."""

from dataclasses import dataclass, field

from onggi.cli.quoting import quote


@dataclass(slots=True, kw_only=True)
class Node:
    """Anything; `position` is where it begins."""

    position: int


@dataclass(slots=True, kw_only=True)
class Bool(Node):
    """`true` or `false`."""

    value: bool

    def __str__(self) -> str:
        """Write it."""
        return "true" if self.value else "false"


@dataclass(slots=True, kw_only=True)
class Dot(Node):
    """`.`."""

    def __str__(self) -> str:
        """Write it."""
        return "."


@dataclass(slots=True, kw_only=True)
class Nil(Node):
    """`nil`."""

    def __str__(self) -> str:
        """Write it."""
        return "nil"


@dataclass(slots=True, kw_only=True)
class Number(Node):
    """A number as it was written, and its value."""

    text: str
    value: int | float

    def __str__(self) -> str:
        """Write it."""
        return self.text


@dataclass(slots=True, kw_only=True)
class String(Node):
    """A text: as it was written with its quotes, and its value."""

    quoted: str
    value: str

    def __str__(self) -> str:
        """Write it."""
        return self.quoted


@dataclass(slots=True, kw_only=True)
class Field(Node):
    """`.A.B`."""

    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        return "".join(f".{name}" for name in self.names)


@dataclass(slots=True, kw_only=True)
class Variable(Node):
    """`$x.A.B`: the first name has the dollar sign."""

    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        return ".".join(self.names)


@dataclass(slots=True, kw_only=True)
class Identifier(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        """Write it."""
        return self.name


@dataclass(slots=True, kw_only=True)
class Chain(Node):
    """`(pipeline).A.B`."""

    node: Node
    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "".join(f".{name}" for name in self.names)


@dataclass(slots=True, kw_only=True)
class Command(Node):
    """One stage of a pipeline: a function or an operand, and arguments."""

    arguments: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        """Write it."""
        return " ".join(f"({node})" if isinstance(node, Pipe) else str(node) for node in self.arguments)


@dataclass(slots=True, kw_only=True)
class Pipe(Node):
    """Stages, and the variables that the result goes to."""

    variables: list[Variable] = field(default_factory=list)
    assigns: bool = False
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        """Write it."""
        names = ", ".join(str(variable) for variable in self.variables)
        sign = f" {'=' if self.assigns else ':='} " if names else ""
        return names + sign + " | ".join(str(command) for command in self.commands)


@dataclass(slots=True, kw_only=True)
class Text(Node):
    """Text as it is."""

    text: str


@dataclass(slots=True, kw_only=True)
class Action(Node):
    """`{{pipeline}}`."""

    pipe: Pipe

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.pipe}}}}}"


@dataclass(slots=True, kw_only=True)
class Block(Node):
    """Nodes one after the other."""

    nodes: list[Node] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Branch(Node):
    """`if`, `with` or `range`."""

    keyword: str
    pipe: Pipe
    body: Block
    otherwise: Block | None


@dataclass(slots=True, kw_only=True)
class Leave(Node):
    """`break` or `continue`."""

    keyword: str

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.keyword}}}}}"


@dataclass(slots=True, kw_only=True)
class Call(Node):
    """`{{template "name" pipeline}}`."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{template {quote(self.name)}{'' if self.pipe is None else f' {self.pipe}'}}}}}"


@dataclass(slots=True, kw_only=True)
class Closing(Node):
    """`{{end}}` or `{{else}}`, which end a list of nodes."""

    keyword: str

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.keyword}}}}}"
