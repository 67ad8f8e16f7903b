"""`(did you mean …?)`: the nearest of the words that would have been right, by edit distance, as BuildKit finds it."""

from collections.abc import Iterable
from typing import Final

_TOO_FAR: Final = 3
"""Edits from which on a word is no longer a misspelling of another."""


def did_you_mean(text: str, value: str, options: Iterable[str], *, any_case: bool = False) -> str:
    """Give `text`, and after it the option that `value` is most likely to stand for, if one is near."""
    wanted = value.lower() if any_case else value
    best, best_distance = "", _TOO_FAR
    for option in options:
        candidate = option.lower() if any_case else option
        if candidate == wanted:
            return text  # the value is right: something else is wrong
        distance = _distance(wanted, candidate)
        if distance < best_distance:
            best, best_distance = candidate, distance
    if not best:
        return text
    if any_case and value == value.upper() and value != value.lower():
        best = best.upper()
    return f"{text} (did you mean {best}?)"


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance; `_TOO_FAR` or more where the lengths alone say so."""
    if abs(len(one) - len(other)) >= _TOO_FAR:
        return _TOO_FAR
    row = list(range(len(other) + 1))
    for number, left in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for column, right in enumerate(other, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (left != right)),
            )
    return row[-1]
