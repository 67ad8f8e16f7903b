"""Registries as the user who called reaches them."""

import os
import pwd

from onggi.cli.caller import Caller
from onggi.registry.access import Registries


def registries_of(caller: Caller) -> Registries:
    """Read the caller's configuration; nothing is asked yet. Raises InvalidArgument for configuration that is wrong."""
    uid = os.geteuid()
    return Registries.of(caller.env, home=caller.env.get("HOME") or home_of(uid), uid=uid)


def home_of(uid: int) -> str:
    """Give a user's home directory."""
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
