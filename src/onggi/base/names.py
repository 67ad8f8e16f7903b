"""File names for people.

A file name is bytes: an image may hold names that are no text at all, with
escape sequences for the reader's terminal in them. Whatever shows one in a
sentence shows it through `shown`.
"""

_LONGEST = 200


def shown(name: bytes) -> str:
    """Return the name quoted, with everything unprintable escaped, and shortened in the middle."""
    text = name.decode("utf-8", "backslashreplace")
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    return repr(text)
