"""The parts of a parsed template; `str()` gives each as Go writes it in errors."""

from msgspec import Struct, field

from onggi.cli.quoting import quote


class Node(Struct, kw_only=True):
    """Anything; `position` is where it begins."""

    position: int


class Bool(Node, kw_only=True):
    """`true` or `false`."""

    value: bool

    def __str__(self) -> str:
        """Write it."""
        return "true" if self.value else "false"


class Dot(Node, kw_only=True):
    """`.`."""

    def __str__(self) -> str:
        """Write it."""
        return "."


class Nil(Node, kw_only=True):
    """`nil`."""

    def __str__(self) -> str:
        """Write it."""
        return "nil"


class Number(Node, kw_only=True):
    """A number as it was written, and its value."""

    text: str
    value: int | float

    def __str__(self) -> str:
        """Write it."""
        return self.text


class String(Node, kw_only=True):
    """A text: as it was written with its quotes, and its value."""

    quoted: str
    value: str

    def __str__(self) -> str:
        """Write it."""
        return self.quoted


class Field(Node, kw_only=True):
    """`.A.B`."""

    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        return "".join(f".{name}" for name in self.names)


class Variable(Node, kw_only=True):
    """`$x.A.B`: the first name has the dollar sign."""

    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        return ".".join(self.names)


class Identifier(Node, kw_only=True):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        """Write it."""
        return self.name


class Chain(Node, kw_only=True):
    """`(pipeline).A.B`."""

    node: Node
    names: list[str]

    def __str__(self) -> str:
        """Write it."""
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "".join(f".{name}" for name in self.names)


class Command(Node, kw_only=True):
    """One stage of a pipeline: a function or an operand, and arguments."""

    arguments: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        """Write it."""
        return " ".join(f"({node})" if isinstance(node, Pipe) else str(node) for node in self.arguments)


class Pipe(Node, kw_only=True):
    """Stages, and the variables that the result goes to."""

    variables: list[Variable] = field(default_factory=list)
    assigns: bool = False
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        """Write it."""
        names = ", ".join(str(variable) for variable in self.variables)
        sign = f" {'=' if self.assigns else ':='} " if names else ""
        return names + sign + " | ".join(str(command) for command in self.commands)


class Text(Node, kw_only=True):
    """Text as it is."""

    text: str


class Action(Node, kw_only=True):
    """`{{pipeline}}`."""

    pipe: Pipe

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.pipe}}}}}"


class Block(Node, kw_only=True):
    """Nodes one after the other."""

    nodes: list[Node] = field(default_factory=list)


class Branch(Node, kw_only=True):
    """`if`, `with` or `range`."""

    keyword: str
    pipe: Pipe
    body: Block
    otherwise: Block | None


class Leave(Node, kw_only=True):
    """`break` or `continue`."""

    keyword: str

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.keyword}}}}}"


class Call(Node, kw_only=True):
    """`{{template "name" pipeline}}`."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{template {quote(self.name)}{'' if self.pipe is None else f' {self.pipe}'}}}}}"


class Closing(Node, kw_only=True):
    """`{{end}}` or `{{else}}`, which end a list of nodes."""

    keyword: str

    def __str__(self) -> str:
        """Write it."""
        return f"{{{{{self.keyword}}}}}"
