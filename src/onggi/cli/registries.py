"""Registries as the user who called reaches them."""

import os
import pwd

from onggi.cli.caller import Caller
from onggi.registry.access import Registries
from onggi.registry.credentials import Credentials


def registries_of(caller: Caller) -> Registries:
    """Read the caller's configuration; nothing is asked yet. Raises InvalidArgument for configuration that is wrong."""
    return Registries.of(caller.env, home=_home(caller), uid=os.geteuid())


def credentials_of(caller: Caller) -> Credentials:
    """Give the credentials of the user who called, in whose own process we are."""
    return Credentials(caller.env, home=_home(caller), uid=os.geteuid())


def _home(caller: Caller) -> str:
    try:
        return caller.env.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
