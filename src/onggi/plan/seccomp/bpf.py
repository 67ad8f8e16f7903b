"""An assembler for classic BPF that never makes the reader count jumps.

A program is a graph of nodes, built from its ends: `Graph.give` (return),
`load` and `mask` (one successor), `jump` (two). Equal nodes are one node, so
that what is the same is shared. `assemble` lays the graph out backwards, from
the last instruction to the first, because classic BPF jumps only forwards: when
a node is placed, all that it jumps to already is. A target that is more than
255 instructions away (`jt` and `jf` are 8 bits) is reached through a copy of
its `ret`, or a `ja` (32 bits), placed just behind.

seccomp(2) runs at most 4,096 instructions, and of classic BPF only 32-bit
loads from struct seccomp_data, arithmetic, jumps and `ret`.
"""

import struct
from typing import Final

from onggi.base.errors import InvalidArgument

MAX_INSTRUCTIONS: Final = 4096
WORD_MAX: Final = 0xFFFF_FFFF

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K
JUMP: Final = 0x05  # BPF_JMP | BPF_JA
JEQ: Final = 0x15
JGT: Final = 0x25
JGE: Final = 0x35

_FAR: Final = 255

Node = int
"""A place in the program, known to one graph."""

Range = tuple[int, Node]
"""Where a run of values begins, and what is done with them; it lasts until the next one begins."""


class Graph:
    """The nodes of one program."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, Node, Node]] = []
        self._known: dict[tuple[int, int, Node, Node], Node] = {}

    def _node(self, code: int, k: int, yes: Node = -1, no: Node = -1) -> Node:
        key = (code, k, yes, no)
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = len(self._nodes)
            self._nodes.append(key)
        return node

    def give(self, value: int) -> Node:
        """End with this verdict."""
        return self._node(RETURN, value)

    def load(self, offset: int, then: Node) -> Node:
        """Take a word of struct seccomp_data into the accumulator."""
        return self._node(LOAD, offset, then)

    def mask(self, bits: int, then: Node) -> Node:
        """Keep only these bits of the accumulator."""
        return self._node(AND, bits, then)

    def jump(self, code: int, k: int, yes: Node, no: Node) -> Node:
        """Compare the accumulator (JEQ, JGT, JGE) with a constant."""
        return yes if yes == no else self._node(code, k, yes, no)

    def loaded(self, offset: int, node: Node) -> Node:
        """Skip a node's load of a word that the accumulator already holds."""
        code, k, then, _ = self._nodes[node]
        return then if code == LOAD and k == offset else node

    def search(self, ranges: list[Range]) -> Node:
        """Find the accumulator's range by bisection; the first begins at 0."""
        merged = [entry for at, entry in enumerate(ranges) if at == 0 or ranges[at - 1][1] != entry[1]]
        return self._bisect(_leaves(merged))

    def _bisect(self, leaves: list[list[Range]]) -> Node:
        if len(leaves) == 1:
            outer = leaves[0][0][1]
            node = outer
            for start, inner in reversed(leaves[0][1::2]):
                node = self.jump(JEQ, start, inner, node)
            return node
        middle = len(leaves) // 2
        upper = self._bisect(leaves[middle:])
        return self.jump(JGE, leaves[middle][0][0], upper, self._bisect(leaves[:middle]))

    def assemble(self, start: Node) -> tuple[bytes, int]:
        """Lay the program out: its struct sock_filter array, and how many instructions that is.

        Raises InvalidArgument when the kernel would not take a program of this length.
        """
        code = self._lay_out(start)
        count = len(code)
        if count > MAX_INSTRUCTIONS:
            raise InvalidArgument(
                f"seccomp profile: the filter needs {count} instructions, the kernel takes {MAX_INSTRUCTIONS}; "
                "give it fewer rules with argument comparisons, or fewer architectures"
            )
        return struct.pack("<" + "HBBI" * count, *(field for each in reversed(code) for field in each)), count

    def _lay_out(self, start: Node) -> list[tuple[int, int, int, int]]:
        code: list[tuple[int, int, int, int]] = []  # the last instruction first
        place: dict[Node, int] = {}

        def reach(node: Node, distance: int) -> None:
            """Make a node's place one that is at most `distance` away from the next instruction."""
            away = len(code) - place[node] - 1
            if away > distance:
                kind, k, _, _ = self._nodes[node]
                code.append((RETURN, 0, 0, k) if kind == RETURN else (JUMP, 0, 0, away))
                place[node] = len(code) - 1

        todo = [start]
        while todo:
            node = todo[-1]
            if node in place:
                todo.pop()
                continue
            kind, k, yes, no = self._nodes[node]
            missing = [each for each in (yes, no) if each >= 0 and each not in place]
            if missing:
                todo += missing
                continue
            if no >= 0:
                reach(yes, _FAR - 1)  # one less: the other may need an instruction between
                reach(no, _FAR)
                code.append((kind, len(code) - place[yes] - 1, len(code) - place[no] - 1, k))
            else:
                if yes >= 0:
                    reach(yes, 0)
                code.append((kind, 0, 0, k))
            place[node] = len(code) - 1
            todo.pop()
        return code


def _leaves(ranges: list[Range]) -> list[list[Range]]:
    """Cut ranges into what one leaf of the search decides.

    A run with a single value in it that is treated otherwise (a, x, a) costs one
    JEQ there, where bisection would pay two comparisons.
    """
    leaves = []
    at = 0
    while at < len(ranges):
        last = at
        while (
            last - at < 2 * _EXCEPTIONS
            and last + 2 < len(ranges)
            and ranges[last + 2][0] == ranges[last + 1][0] + 1
            and ranges[last + 2][1] == ranges[at][1]
        ):
            last += 2
        leaves.append(ranges[at : last + 1])
        at = last + 1
    return leaves


_EXCEPTIONS: Final = 2  # more would make the filter shorter, and the way through it longer
