"""From the rules of one system call to instructions that look at its arguments.

An argument is 64 bits and the accumulator 32, so a comparison may need both
words. Where all rules look at one argument (Docker's for socket and personality
do), each range of its values has one verdict, which bisection finds; else the
rules are tried in order.
"""

from bisect import bisect_left
from typing import Final

from .bpf import JEQ, JGE, JGT, WORD_MAX, Graph, Node, Range
from .rules import Condition, Rule
from .tables import Arch

_ARGS: Final = 16  # in struct seccomp_data
_CODES: Final = {"==": JEQ, "&": JEQ, "!=": JEQ, ">": JGT, "<=": JGT, ">=": JGE, "<": JGE}


def decide(graph: Graph, rules: list[Rule], arch: Arch, otherwise: Node) -> Node:
    """Try the rules of one system call in order."""
    width = 64 if arch.wide else 32
    if _on_one_argument(rules, (1 << width) - 1):
        return _search_argument(graph, rules, width, otherwise)
    node = otherwise
    for verdict, conditions in reversed(rules):
        then = graph.give(verdict)
        for condition in reversed(conditions):
            then = _test(graph, condition, width, then, node)
        node = then
    return node


def _on_one_argument(rules: list[Rule], full: int) -> bool:
    indexes = {rule.conditions[0].argument for rule in rules if rule.conditions}
    return len(indexes) == 1 and all(len(conditions) == 1 and conditions[0].mask == full for _, conditions in rules)


def _search_argument(graph: Graph, rules: list[Rule], width: int, otherwise: Node) -> Node:
    """Rules that each compare the same argument: a verdict for each range of its values."""
    limit = 1 << width
    painting = _Painting(otherwise, limit)
    for verdict, ((_, operator, value, _),) in reversed(rules):
        for begin, end in _intervals(operator, value, limit):
            painting.paint(begin, end, graph.give(verdict))
    ranges = painting.ranges()
    argument = rules[0].conditions[0].argument
    if width == 32:
        return _search_word(graph, _low(argument), ranges)
    return _search_word(graph, _high(argument), _by_high_word(graph, _low(argument), ranges))


def _by_high_word(graph: Graph, low: int, ranges: list[Range]) -> list[Range]:
    """Cut ranges of 64-bit values by their high word; one that has edges inside searches the low word."""
    inside: dict[int, list[Range]] = {}
    for edge, node in ranges:
        inside.setdefault(edge >> 32, []).append((edge & WORD_MAX, node))
    words: dict[int, Node] = {}
    before = ranges[0][1]  # the fate of the last value below
    for high, edges in inside.items():
        whole = edges if edges[0][0] == 0 else [(0, before), *edges]
        before = edges[-1][1]
        words[high] = _search_word(graph, low, whole)
        words[high + 1] = before
    words.pop(WORD_MAX + 1, None)
    return list(words.items())


def _search_word(graph: Graph, offset: int, ranges: list[Range]) -> Node:
    if len({node for _, node in ranges}) == 1:
        return ranges[0][1]
    return graph.load(offset, graph.search([(edge, graph.loaded(offset, node)) for edge, node in ranges]))


def _intervals(operator: str, value: int, limit: int) -> tuple[tuple[int, int], ...]:
    """Give the values for which a comparison holds; each interval is without its end."""
    match operator:
        case "==" | "&":
            return ((value, value + 1),)
        case "!=":
            return ((0, value), (value + 1, limit))
        case "<":
            return ((0, value),)
        case "<=":
            return ((0, value + 1),)
        case ">":
            return ((value + 1, limit),)
        case _:
            return ((value, limit),)


class _Painting:
    """A line of values from 0 to a limit on which later paint covers earlier."""

    def __init__(self, ground: Node, limit: int) -> None:
        self._limit = limit
        self._starts = [0]
        self._nodes = [ground]

    def paint(self, begin: int, end: int, node: Node) -> None:
        """Cover an interval."""
        if begin >= end:
            return
        first, last = bisect_left(self._starts, begin), bisect_left(self._starts, end)
        resumes = end < self._limit and (last == len(self._starts) or self._starts[last] != end)
        behind = [self._nodes[last - 1]] if resumes else []
        self._starts[first:last] = [begin, end] if resumes else [begin]
        self._nodes[first:last] = [node, *behind]

    def ranges(self) -> list[Range]:
        """Give the colours in order; neighbours differ."""
        pairs = list(zip(self._starts, self._nodes, strict=True))
        return [pair for at, pair in enumerate(pairs) if at == 0 or pairs[at - 1][1] != pair[1]]


def _test(graph: Graph, condition: Condition, width: int, yes: Node, no: Node) -> Node:
    """One comparison, as one or two words; of != < <= the contrary is asked, with the exits exchanged."""
    argument, operator, value, mask = condition
    if operator in ("!=", "<", "<="):
        yes, no = no, yes
    code = _CODES[operator]
    low = _compare(graph, _low(argument), code, value & WORD_MAX, mask & WORD_MAX, yes, no)
    if width == 32:
        return low
    high, high_mask = value >> 32, mask >> 32
    if code == JEQ:
        return _compare(graph, _high(argument), JEQ, high, high_mask, low, no)
    equal = graph.jump(JEQ, high, graph.loaded(_high(argument), low), graph.loaded(_high(argument), no))
    return graph.load(_high(argument), graph.jump(JGT, high, graph.loaded(_high(argument), yes), equal))


def _compare(graph: Graph, offset: int, code: int, value: int, mask: int, yes: Node, no: Node) -> Node:
    if mask == WORD_MAX:
        return graph.load(offset, graph.jump(code, value, graph.loaded(offset, yes), graph.loaded(offset, no)))
    if mask == 0:
        return yes
    return graph.load(offset, graph.mask(mask, graph.jump(code, value, yes, no)))


def _low(argument: int) -> int:
    return _ARGS + 8 * argument


def _high(argument: int) -> int:
    return _ARGS + 8 * argument + 4
