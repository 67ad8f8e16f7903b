"""Runs a parsed template over data (Go's text/template/exec.go)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from onggi.cli.quoting import quote
from onggi.cli.template import nodes
from onggi.cli.template.functions import FUNCTIONS, HEADER_FUNCTIONS, Function
from onggi.cli.template.nodes import Block, Branch, Node, Pipe
from onggi.cli.template.parser import parse
from onggi.cli.template.values import (
    MAX_OUTPUT,
    Map,
    Method,
    Nil,
    Object,
    OperationError,
    Row,
    TemplateError,
    is_true,
    to_text,
    type_name,
)

MAX_STEPS: Final = 1_000_000
MAX_DEPTH: Final = 100
"""How deep blocks may nest, and templates call each other."""

_Value = Any
_MISSING: Final = object()
"""There is no value from the stage before."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A template that was read. It may be executed again and again."""

    def __init__(self, name: str, text: str, blocks: Mapping[str, Block]) -> None:
        """Hold what the parser gave."""
        self._name, self._text, self._blocks = name, text, blocks

    def execute(self, data: _Value, *, aliases: Mapping[str, str] | None = None) -> str:
        """Fill it in. `aliases` are further names of fields. Raises TemplateError with Go's text."""
        return _Execution(self._name, self._text, self._blocks, FUNCTIONS, aliases or {}).run(data)

    def names(self, field: str) -> bool:
        """Whether it may look at this field of its data: names it, or takes the whole."""
        return any(_names(node, field) for block in self._blocks.values() for node in _all(block))

    def execute_header(self, data: _Value) -> str:
        """Fill it in with the titles of columns, as far as that goes: functions leave them as they are."""
        execution = _Execution(self._name, self._text, self._blocks, HEADER_FUNCTIONS, {})
        try:
            return execution.run(data)
        except TemplateError:
            return execution.output


def _all(node: Node) -> Iterator[Node]:
    """Give a node and all that are in it."""
    yield node
    for slot in node.__struct_fields__:
        value = getattr(node, slot)
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, Node):
                yield from _all(part)


def _names(node: Node, field: str) -> bool:
    match node:
        case nodes.Dot():
            return True
        case nodes.Variable(names=["$"]):
            return True
        case nodes.Field() | nodes.Variable() | nodes.Chain():
            return field in node.names
    return False


def parse_template(text: str, name: str = "") -> Template:
    """Read a template. Raises TemplateError with Go's text."""
    return Template(name, text, parse(name, text, FUNCTIONS))


class _Execution:
    def __init__(
        self,
        name: str,
        text: str,
        blocks: Mapping[str, Block],
        functions: Mapping[str, Function],
        aliases: Mapping[str, str],
    ) -> None:
        self._name, self._text, self._blocks = name, text, blocks
        self._functions, self._aliases = functions, aliases
        self._executing = name
        self._lenient = False
        self._variables: list[tuple[str, _Value]] = []
        self._node: Node | None = None
        self._out: list[str] = []
        self._size = self._steps = self._depth = 0

    def run(self, data: _Value) -> str:
        self._variables = [("$", data)]
        self._lenient = isinstance(data, Map)
        self._block(data, self._blocks[self._name])
        return self.output

    @property
    def output(self) -> str:
        return "".join(self._out)

    def _error(self, problem: object) -> TemplateError:
        assert self._node is not None
        before = self._text[: self._node.position]
        line = before.count("\n") + 1
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        where = f"{self._name}:{line}:{column}"
        return TemplateError(f"template: {where}: executing {quote(self._executing)} at <{self._node}>: {problem}")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self._error(f"more than {MAX_STEPS} steps")

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_OUTPUT:
            raise self._error(f"more than {MAX_OUTPUT} characters of output")
        self._out.append(text)

    # -- control -----------------------------------------------------------------------------------

    def _block(self, dot: _Value, block: Block) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"exceeded maximum template depth ({MAX_DEPTH})")
        try:
            self._nodes(dot, block)
        finally:
            self._depth -= 1

    def _nodes(self, dot: _Value, block: Block) -> None:
        for node in block.nodes:
            self._node = node
            self._step()
            match node:
                case nodes.Text():
                    self._write(node.text)
                case nodes.Action():
                    value = self._pipeline(dot, node.pipe)
                    if not node.pipe.variables:
                        self._node = node
                        self._write(self._printed(value))
                case nodes.Branch(keyword="range"):
                    self._range(dot, node)
                case nodes.Branch():
                    self._if_or_with(dot, node)
                case nodes.Call():
                    self._call_template(dot, node)
                case nodes.Leave():
                    raise _Break if node.keyword == "break" else _Continue

    def _printed(self, value: _Value) -> str:
        if isinstance(value, Method):
            raise self._error(f"can't print {self._node}: it is a function")
        return "<no value>" if value is None else to_text(value)

    def _if_or_with(self, dot: _Value, branch: Branch) -> None:
        known = len(self._variables)
        value = self._pipeline(dot, branch.pipe)
        if is_true(value):
            self._block(value if branch.keyword == "with" else dot, branch.body)
        elif branch.otherwise is not None:
            self._block(dot, branch.otherwise)
        del self._variables[known:]

    def _range(self, dot: _Value, branch: Branch) -> None:
        known = len(self._variables)
        value = self._pipeline(dot, branch.pipe)
        items = self._items(branch, value)
        mark = len(self._variables)
        try:
            for key, item in items:
                self._step()
                self._set_loop_variables(branch.pipe, mark, key, item)
                try:
                    self._block(item, branch.body)
                except _Continue:
                    pass
                finally:
                    del self._variables[mark:]
        except _Break:
            pass
        if not items and branch.otherwise is not None:
            self._block(dot, branch.otherwise)
        del self._variables[known:]

    def _items(self, branch: Branch, value: _Value) -> Sequence[tuple[_Value, _Value]]:
        match value:
            case None:
                return ()
            case bool() | float() | str() | Row() | Method():
                pass
            case int():
                if len(branch.pipe.variables) > 1:
                    raise self._error(f"can't use {value} to iterate over more than one variable")
                if value > MAX_STEPS:
                    raise self._error(f"more than {MAX_STEPS} steps")
                return [(None, number) for number in range(value)]
            case list():
                return list(enumerate(value))
            case dict():
                return sorted(value.items())
        raise self._error(f"range can't iterate over {to_text(value)}")

    def _set_loop_variables(self, pipe: Pipe, mark: int, key: _Value, item: _Value) -> None:
        names = [variable.names[0] for variable in pipe.variables]
        for name, value in zip(names, (item,) if len(names) < 2 else (key, item), strict=False):
            if pipe.assigns:
                self._assign(name, value)
            else:
                index = mark - len(names) + names.index(name)
                self._variables[index] = (name, value)

    def _call_template(self, dot: _Value, call: nodes.Call) -> None:
        block = self._blocks.get(call.name)
        if block is None:
            raise self._error(f"template {quote(call.name)} not defined")
        data = None if call.pipe is None else self._pipeline(dot, call.pipe)
        kept, self._variables = self._variables, [("$", data)]
        executing, self._executing = self._executing, call.name
        self._block(data, block)
        self._executing, self._variables = executing, kept

    # -- variables ---------------------------------------------------------------------------------

    def _find(self, name: str) -> int:
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                return index
        raise self._error(f"undefined variable: {name}")

    def _assign(self, name: str, value: _Value) -> None:
        self._variables[self._find(name)] = (name, value)

    # -- pipelines ---------------------------------------------------------------------------------

    def _pipeline(self, dot: _Value, pipe: Pipe) -> _Value:
        self._node = pipe
        value: _Value = _MISSING
        for command in pipe.commands:
            value = self._command(dot, command, value)
        for variable in pipe.variables:
            if pipe.assigns:
                self._assign(variable.names[0], value)
            else:
                self._variables.append((variable.names[0], value))
        return value

    def _command(self, dot: _Value, command: nodes.Command, final: _Value) -> _Value:
        self._step()
        first = command.arguments[0]
        match first:
            case nodes.Field() | nodes.Chain():
                return self._fields(dot, first, command.arguments, final)
            case nodes.Variable() if len(first.names) > 1:
                return self._fields(dot, first, command.arguments, final)
            case nodes.Identifier():
                return self._function(dot, first, command, command.arguments[1:], final)
        if not isinstance(first, Pipe):
            self._node = first
        if isinstance(first, nodes.Variable):
            self._find(first.names[0])
        if len(command.arguments) > 1 or final is not _MISSING:
            raise self._error(f"can't give argument to non-function {first}")
        if isinstance(first, nodes.Nil):
            raise self._error("nil is not a command")
        return self._operand(dot, first)

    def _operand(self, dot: _Value, node: Node) -> _Value:
        """Give the value of a node that is no stage of a pipeline, but an argument or the whole of one."""
        match node:
            case nodes.Dot():
                return dot
            case nodes.Field() | nodes.Chain():
                return self._fields(dot, node, (), _MISSING)
            case nodes.Variable():
                if len(node.names) > 1:
                    return self._fields(dot, node, (), _MISSING)
                self._node = node
                return self._variables[self._find(node.names[0])][1]
            case Pipe():
                return self._pipeline(dot, node)
            case nodes.Identifier():
                return self._function(dot, node, node, (), _MISSING)
            case nodes.Bool() | nodes.Number() | nodes.String():
                return node.value
        return None

    def _fields(
        self,
        dot: _Value,
        node: nodes.Field | nodes.Chain | nodes.Variable,
        arguments: Sequence[Node],
        final: _Value,
    ) -> _Value:
        self._node = node
        names = node.names
        match node:
            case nodes.Field():
                receiver = dot
            case nodes.Variable():
                receiver = self._variables[self._find(names[0])][1]
                names = names[1:]
            case nodes.Chain():
                if isinstance(node.node, nodes.Nil):
                    raise self._error(f"indirection through explicit nil in {node}")
                receiver = self._operand(dot, node.node)
        kind = type_name(receiver)
        if not self._lenient and (receiver is None or isinstance(receiver, Nil)):
            raise self._error(f"nil data; no entry for key {quote(names[0])}")
        for name, following in zip(names, [*names[1:], None], strict=True):
            holder = receiver
            if following is None:
                return self._field(dot, name, kind, node, arguments, final, receiver)
            receiver = self._field(dot, name, kind, node, (), _MISSING, receiver)
            if isinstance(receiver, Nil) and name not in holder:
                raise self._error(f"map has no entry for key {quote(name)}")
            if isinstance(receiver, Nil) or (receiver is None and isinstance(holder, dict) and name in holder):
                raise self._error(f"nil pointer evaluating interface {{}}.{following}")
            kind = "string" if isinstance(holder, Map) and holder.zero == "" else "interface {}"
        return None

    def _field(
        self,
        dot: _Value,
        name: str,
        kind: str,
        node: Node,
        arguments: Sequence[Node],
        final: _Value,
        receiver: _Value,
    ) -> _Value:
        """Give a field of `receiver`, whose type errors call `kind`."""
        if receiver is None:
            return None
        if isinstance(receiver, dict):
            found = name if name in receiver else self._aliases.get(name, name)
            if found in receiver:
                return self._found(dot, name, node, arguments, final, receiver[found])
            self._refuse_arguments(name, arguments, final)
            if isinstance(receiver, Map):
                return None
            if isinstance(receiver, Object) and name in receiver.silent:
                return self._found(dot, name, node, arguments, final, receiver.silent[name])
            if not isinstance(receiver, Row):
                raise self._error(f"map has no entry for key {quote(name)}")
        raise self._error(f"can't evaluate field {name} in type {kind}")

    def _found(
        self, dot: _Value, name: str, node: Node, arguments: Sequence[Node], final: _Value, value: _Value
    ) -> _Value:
        if isinstance(value, Method):
            method = Function(value.function, value.parameters)
            return self._call(dot, method, node, name, arguments[1:], final)
        self._refuse_arguments(name, arguments, final)
        return value

    def _refuse_arguments(self, name: str, arguments: Sequence[Node], final: _Value) -> None:
        if len(arguments) > 1 or final is not _MISSING:
            raise self._error(f"{name} is not a method but has arguments")

    # -- functions ---------------------------------------------------------------------------------

    def _function(
        self, dot: _Value, identifier: nodes.Identifier, node: Node, arguments: Sequence[Node], final: _Value
    ) -> _Value:
        self._node = identifier
        function = self._functions[identifier.name]
        if identifier.name in ("and", "or"):
            self._check_count(function, identifier.name, arguments, final)
            return self._lazily(dot, identifier.name == "or", arguments, final)
        return self._call(dot, function, node, identifier.name, arguments, final)

    def _lazily(self, dot: _Value, decides: bool, arguments: Sequence[Node], final: _Value) -> _Value:
        value: _Value = None
        for argument in arguments:
            value = self._argument(dot, "any", argument)
            if is_true(value) == decides:
                return value
        return value if final is _MISSING else final

    def _check_count(self, function: Function, name: str, arguments: Sequence[Node], final: _Value) -> None:
        given, wanted = len(arguments) + (final is not _MISSING), len(function.parameters)
        if function.is_open:
            wanted -= name not in ("and", "or")
            if given < wanted:
                raise self._error(f"wrong number of args for {name}: want at least {wanted} got {len(arguments)}")
        elif given != wanted:
            raise self._error(f"wrong number of args for {name}: want {wanted} got {given}")

    def _call(
        self, dot: _Value, function: Function, node: Node, name: str, arguments: Sequence[Node], final: _Value
    ) -> _Value:
        self._check_count(function, name, arguments, final)
        types = function.parameters
        values = [
            self._argument(dot, types[min(number, len(types) - 1)], argument)
            for number, argument in enumerate(arguments)
        ]
        if final is not _MISSING:
            values.append(self._check_type(final, types[min(len(values), len(types) - 1)]))
        try:
            return function.call(*values)
        except OperationError as error:
            self._node = node
            raise self._error(f"error calling {name}: {error}") from None

    def _argument(self, dot: _Value, wanted: str, node: Node) -> _Value:
        self._node = node
        self._step()
        match node:
            case nodes.Bool() | nodes.Number() | nodes.String():
                return self._constant(wanted, node)
            case nodes.Nil():
                if wanted in ("string", "int"):
                    raise self._error(f"cannot assign nil to {wanted}")
                return None if wanted == "any" else []
        value = self._operand(dot, node)
        if value is None and wanted != "any" and isinstance(node, nodes.Field):
            raise self._error(f"wrong type for value; expected {wanted}; got interface {{}}")
        return self._check_type(value, wanted)

    def _constant(self, wanted: str, node: nodes.Bool | nodes.Number | nodes.String) -> _Value:
        value = node.value
        match wanted:
            case "any":
                return value
            case "string" if isinstance(value, str):
                return value
            case "int" if isinstance(node, nodes.Number) and value == int(value):
                return int(value)
            case "string" | "int":
                kind = "integer" if wanted == "int" else wanted
                raise self._error(f"expected {kind}; found {node}")
        raise self._error(f"can't handle {node} for arg of type {wanted}")

    def _check_type(self, value: _Value, wanted: str) -> _Value:
        if wanted == "any":
            return value
        if value is None:
            if wanted == "[]string":
                return []
            raise self._error(f"invalid value; expected {wanted}")
        if type_name(value) == wanted or (wanted == "[]string" and value == []):
            return value
        raise self._error(f"wrong type for value; expected {wanted}; got {type_name(value)}")
