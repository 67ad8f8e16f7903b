"""Cache keys: the name of a step's result before it is there. Pure.

A step's key is made of the key of the file-system step before it, the instruction,
everything that the step can see, and the content of exactly the files that it
uses. Never of times, labels, ports or the default command: they change no file.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from onggi.build.graph import CopyStep, RunStep, Step, WorkdirStep

_KIND: Final = "the kind of instruction"


class Key(msgspec.Struct, frozen=True):
    """A key, and by name the parts that it is made of, so that a miss can be explained."""

    digest: str
    parts: dict[str, str]


def hash_words(words: Iterable[str | bytes]) -> str:
    """Hash words so that no two lists of words give the same bytes."""
    hasher = hashlib.sha256()
    for word in words:
        raw = word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word
        hasher.update(b"%d:" % len(raw))
        hasher.update(raw)
    return hasher.hexdigest()


def base_key(layers: Sequence[str], platform: str) -> Key:
    """The key of a stage that has no step yet: the DiffIDs that it starts from."""
    return Key(hash_words(("base", platform, *layers)), {"base": hash_words(layers)})


def step_key(parent: str, step: Step, platform: str, inputs: dict[str, str]) -> Key:
    """The key of one step; `inputs` names the content of what it uses (files, mounts) by digest."""
    action = step.action
    match action:
        case RunStep():
            parts = {
                "the command": hash_words(action.argv),
                "a here-document": hash_words(action.script or ()),
                "the user": action.user,
                "the working directory": action.workdir,
                "the network": action.network,
                "extra hosts": hash_words(action.hosts),
                "mounts": hash_words(repr(mount) for mount, _ in action.mounts),
            }
            arguments = frozenset(action.args)
            for entry in action.env:
                name, _, value = entry.partition("=")
                kind = "the build argument" if name in arguments else "the variable"
                parts[f"{kind} {name}"] = hash_words((value,))
        case CopyStep():
            parts = {
                "the destination": action.destination,
                "the sources": hash_words(action.sources),
                "a here-document": hash_words(f"{doc.name}\n{doc.content}" for doc in action.heredocs),
                "--chown": action.chown or "",
                "--chmod": action.chmod or "",
                "--exclude": hash_words(action.exclude),
                "unpacking": str(action.unpack),
            }
        case WorkdirStep():
            parts = {"the path": action.path, "the user": action.user}
    parts |= {_KIND: type(action).__name__, **inputs}
    words = [parent, platform]
    for name in sorted(parts):
        words += [name, parts[name]]
    return Key(hash_words(words), {"what came before": parent, **parts})


def explain_miss(old: dict[str, str], new: dict[str, str]) -> str:
    """Say in a few words why a step that ran before has to run again."""
    if old.get(_KIND, new[_KIND]) != new[_KIND]:
        return "another instruction was here"
    changed = [name for name, value in new.items() if old.get(name) != value]
    gone = [name for name in old if name not in new]
    if "what came before" in changed and len(changed) == 1 and not gone:
        return "a step before it changed"
    own = [name for name in changed if name != "what came before"]
    words = [f"{name} {'changed' if name in old else 'is new'}" for name in own[:3]]
    words += [f"{name} is gone" for name in gone[: 3 - len(words)]]
    more = len(own) + len(gone) - len(words)
    return ", ".join(words) + (f" and {more} more" if more > 0 else "") if words else "a step before it changed"
