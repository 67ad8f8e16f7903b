"""Builds the tree of a template from its tokens (Go's text/template/parse/parse.go)."""

from collections.abc import Collection
from typing import Final

from onggi.cli.quoting import quote
from onggi.cli.template import nodes
from onggi.cli.template.lexer import Lexer, Token
from onggi.cli.template.literals import parse_number, unquote
from onggi.cli.template.nodes import Block, Node, Pipe
from onggi.cli.template.values import TemplateError

MAX_DEPTH: Final = 50
"""How deep parentheses and blocks may nest: Go allows more, but nobody writes it."""
_OPERANDS: Final = frozenset(
    {"bool", "char constant", ".", "field", "identifier", "number", "nil", "raw string", "string", "variable", "("}
)
_CONSTANTS: Final = (nodes.Bool, nodes.Dot, nodes.Nil, nodes.Number, nodes.String)


def parse(name: str, text: str, functions: Collection[str]) -> dict[str, Block]:
    """Read a template and those it defines, by name. Raises TemplateError with Go's text."""
    parser = _Parser(name, text, functions)
    parser.whole()
    return parser.blocks


class _Parser:
    def __init__(self, name: str, text: str, functions: Collection[str]) -> None:
        self.blocks: dict[str, Block] = {}
        self._name, self._functions = name, functions
        self._lexer = Lexer(text)
        self._tokens: list[Token] = []  # looked at, not taken; the next one is last
        self._line = 1  # of the token that was read last
        self._variables = ["$"]
        self._action_line = 0
        self._ranges = 0
        self._depth = 0

    # -- tokens ------------------------------------------------------------------------------------

    def _next(self) -> Token:
        if self._tokens:
            return self._tokens.pop()
        token = self._lexer.next()
        self._line = token.line
        return token

    def _back(self, *tokens: Token) -> None:
        self._tokens.extend(reversed(tokens))

    def _peek(self) -> Token:
        token = self._next()
        self._back(token)
        return token

    def _next_word(self) -> Token:
        while (token := self._next()).kind == "space":
            pass
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._back(token)
        return token

    def _expect(self, kind: str, context: str) -> Token:
        token = self._next_word()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    def _error(self, problem: object) -> TemplateError:
        return TemplateError(f"template: {self._name}:{self._line}: {problem}")

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind != "error":
            return self._error(f"unexpected {token} in {context}")
        where = ""
        if self._action_line not in (0, token.line):
            started = "" if token.text.endswith(" action") else " in action"
            where = f"{started} started at {self._name}:{self._action_line}"
        return self._error(f"{token}{where}")

    # -- lists and blocks --------------------------------------------------------------------------

    def whole(self) -> None:
        root = Block(position=self._peek().position)
        while self._peek().kind != "EOF":
            opening = self._peek()
            if opening.kind == "{{":
                self._next()
                word = self._next_word()
                if word.kind == "define":
                    self._definition()
                    continue
                self._back(opening, word)
            node = self._text_or_action()
            if isinstance(node, nodes.Closing):
                raise self._error(f"unexpected {node}")
            root.nodes.append(node)
        self._add(self._name, root)

    def _add(self, name: str, block: Block) -> None:
        known = self.blocks.get(name)
        if known is None or _is_empty(known):
            self.blocks[name] = block
        elif not _is_empty(block):
            raise self._error(f"template: multiple definition of template {quote(name)}")

    def _definition(self) -> None:
        context = "define clause"
        name = self._template_name(self._next_word(), context)
        self._expect("}}", context)
        self._add(name, self._separate(context))

    def _separate(self, context: str) -> Block:
        """Read the body of a template of its own, which sees no variables of this one."""
        kept, self._variables, ranges, self._ranges = self._variables, ["$"], self._ranges, 0
        block, end = self._list()
        if end.keyword != "end":
            raise self._error(f"unexpected {end} in {context}")
        self._variables, self._ranges = kept, ranges
        return block

    def _list(self) -> tuple[Block, nodes.Closing]:
        block = Block(position=self._peek_word().position)
        self._deeper()
        while self._peek_word().kind != "EOF":
            node = self._text_or_action()
            if isinstance(node, nodes.Closing):
                self._depth -= 1
                return block, node
            block.nodes.append(node)
        raise self._error("unexpected EOF")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error("max expression depth exceeded")

    def _text_or_action(self) -> Node:
        token = self._next_word()
        if token.kind == "text":
            return nodes.Text(position=token.position, text=token.text)
        if token.kind != "{{":
            raise self._unexpected(token, "input")
        self._action_line = token.line
        node = self._action()
        self._action_line = 0
        return node

    def _action(self) -> Node:
        token = self._next_word()
        match token.kind:
            case "block":
                return self._block()
            case "break" | "continue":
                return self._leave(token)
            case "else":
                return self._else()
            case "end":
                return nodes.Closing(position=self._expect("}}", "end").position, keyword="end")
            case "if" | "range" | "with":
                return self._branch(token.kind)
            case "template":
                return self._call()
        self._back(token)
        return nodes.Action(position=token.position, pipe=self._pipeline("command", "}}"))

    def _leave(self, token: Token) -> Node:
        after = self._next_word()
        shown = f"{{{{{token.kind}}}}}"
        if after.kind != "}}":
            raise self._unexpected(after, shown)
        if not self._ranges:
            raise self._error(f"{shown} outside {{{{range}}}}")
        return nodes.Leave(position=token.position, keyword=token.kind)

    def _else(self) -> Node:
        # `{{else if` is `{{else}}{{if`: the keyword is left for the branch that the else belongs to.
        token = self._peek_word()
        if token.kind not in ("if", "with"):
            token = self._expect("}}", "else")
        return nodes.Closing(position=token.position, keyword="else")

    def _branch(self, keyword: str) -> Node:
        known = len(self._variables)
        pipe = self._pipeline(keyword, "}}")
        self._ranges += keyword == "range"
        body, closing = self._list()
        self._ranges -= keyword == "range"
        otherwise = None
        if closing.keyword == "else":
            if keyword in ("if", "with") and self._peek().kind == keyword:
                self._next()
                self._deeper()
                otherwise = Block(position=closing.position, nodes=[self._branch(keyword)])
                self._depth -= 1
            else:
                otherwise, end = self._list()
                if end.keyword != "end":
                    raise self._error(f"expected end; found {end}")
        del self._variables[known:]
        return nodes.Branch(position=pipe.position, keyword=keyword, pipe=pipe, body=body, otherwise=otherwise)

    def _block(self) -> Node:
        context = "block clause"
        token = self._next_word()
        name = self._template_name(token, context)
        pipe = self._pipeline(context, "}}")
        self._add(name, self._separate(context))
        return nodes.Call(position=token.position, name=name, pipe=pipe)

    def _call(self) -> Node:
        context = "template clause"
        token = self._next_word()
        name = self._template_name(token, context)
        pipe = None
        after = self._next_word()
        if after.kind != "}}":
            self._back(after)
            pipe = self._pipeline(context, "}}")
        return nodes.Call(position=token.position, name=name, pipe=pipe)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in ("string", "raw string"):
            raise self._unexpected(token, context)
        return self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self._error(error) from None

    # -- pipelines ---------------------------------------------------------------------------------

    def _pipeline(self, context: str, end: str) -> Pipe:
        pipe = Pipe(position=self._peek_word().position)
        while self._declares(pipe, context):
            pass
        while True:
            token = self._next_word()
            if token.kind == end:
                self._check_pipeline(pipe, context)
                return pipe
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._back(token)
            pipe.commands.append(self._command())

    def _declares(self, pipe: Pipe, context: str) -> bool:
        """Read `$x :=`, `$x =` or `$x,`; True after a comma, when one more is to come."""
        name = self._peek_word()
        if name.kind != "variable":
            return False
        self._next()
        after = self._next()
        sign = after if after.kind != "space" else self._next_word()
        comma = sign.kind == "char" and sign.text == ","
        if sign.kind not in ("=", ":=") and not comma:
            if after is sign:
                self._back(name, sign)
            else:
                self._back(name, after, sign)
            return False
        pipe.assigns = sign.kind == "="
        pipe.variables.append(nodes.Variable(position=name.position, names=name.text.split(".")))
        self._variables.append(name.text)
        if not comma:
            return False
        if context != "range" or len(pipe.variables) > 1:
            raise self._error(f"too many declarations in {context}")
        if self._peek_word().kind not in ("variable", "}}", ")"):
            raise self._error("range can only initialize variables")
        return True

    def _check_pipeline(self, pipe: Pipe, context: str) -> None:
        if not pipe.commands:
            raise self._error(f"missing value for {context}")
        for number, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.arguments[0], _CONSTANTS):
                raise self._error(f"non executable command in pipeline stage {number}")

    def _command(self) -> nodes.Command:
        command = nodes.Command(position=self._peek_word().position)
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                command.arguments.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("}}", ")"):
                self._back(token)
            elif token.kind != "|":
                raise self._unexpected(token, "operand")
            break
        if not command.arguments:
            raise self._error("empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        position, names = self._peek().position, []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(position=position, names=[*node.names, *names])
        if isinstance(node, nodes.Variable):
            return nodes.Variable(position=position, names=[*node.names, *names])
        if isinstance(node, _CONSTANTS):
            raise self._error(f"unexpected . after term {quote(str(node))}")
        return nodes.Chain(position=position, node=node, names=names)

    def _term(self) -> Node | None:
        token = self._next_word()
        at = token.position
        match token.kind:
            case "identifier":
                if token.text not in self._functions:
                    raise self._error(f"function {quote(token.text)} not defined")
                return nodes.Identifier(position=at, name=token.text)
            case ".":
                return nodes.Dot(position=at)
            case "nil":
                return nodes.Nil(position=at)
            case "variable":
                if token.text not in self._variables:
                    raise self._error(f"undefined variable {quote(token.text)}")
                return nodes.Variable(position=at, names=[token.text])
            case "field":
                return nodes.Field(position=at, names=[token.text[1:]])
            case "bool":
                return nodes.Bool(position=at, value=token.text == "true")
            case "number" | "char constant":
                try:
                    return nodes.Number(position=at, text=token.text, value=parse_number(token.text))
                except ValueError as error:
                    raise self._error(error) from None
            case "(":
                self._deeper()
                pipe = self._pipeline("parenthesized pipeline", ")")
                self._depth -= 1
                return pipe
            case "string" | "raw string":
                return nodes.String(position=at, quoted=token.text, value=self._unquoted(token))
        self._back(token)
        return None


def _is_empty(block: Block) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in block.nodes)
