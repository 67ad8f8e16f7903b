"""`login` and `logout`: who we are at a registry. Texts are Docker's (docker/cli's cli/command/registry)."""

import re
from typing import Final

import click

from onggi.base.errors import InvalidArgument, Unauthorized
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.caller import Caller
from onggi.cli.options import flag, single
from onggi.cli.prompting import ask, ask_secret, read_piped
from onggi.cli.registries import credentials_of, registries_of
from onggi.registry.credential_file import HUB_KEY, key_of, registry_of
from onggi.registry.credentials import Credentials
from onggi.registry.login import Checker, log_in, log_in_again
from onggi.spec.registry import Credential

_ON_THE_COMMAND_LINE: Final = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
_UNENCRYPTED: Final = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/

"""
_REGISTER: Final = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.\n"
)
_HOST: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_NO_TERMINAL: Final = "Cannot perform an interactive login from a non TTY device"


def register(cli: Group) -> None:
    """Add them."""
    cli.add_command(login)
    cli.add_command(logout)


def log_in_user(
    caller: Caller,
    checker: Checker,
    server: str,
    username: str | None = None,
    password: str | None = None,
    *,
    password_stdin: bool = False,
) -> int:
    """Log in, asking the user for what is not given; None is not given. Raises Unauthorized, InvalidArgument."""
    _check_flags(username, password, password_stdin=password_stdin)
    if password is not None:
        caller.err(_ON_THE_COMMAND_LINE)
    if password_stdin:
        password = read_piped("--password-stdin")
        if not password:
            raise InvalidArgument("password is empty")
    host = _host(server)
    credentials = credentials_of(caller)
    kept = credentials.find(host) if username is None and password is None else None
    if kept is None or not (kept.username and kept.password) or not _is_valid(caller, credentials, checker, host, kept):
        wanted = _ask_user(caller, host, username or "", password or "", kept.username if kept else "")
        if unencrypted := log_in(credentials, checker, host, wanted):
            caller.err(_UNENCRYPTED.format(path=unencrypted))
    caller.out("Login Succeeded\n")
    return 0


def _check_flags(username: str | None, password: str | None, *, password_stdin: bool) -> None:
    if password_stdin and password is not None:
        raise InvalidArgument("conflicting options: cannot specify both --password and --password-stdin")
    if password_stdin and username is None:
        raise InvalidArgument("the --password-stdin option requires --username to be set")
    if username == "":
        raise InvalidArgument("username is empty")
    if password == "":
        raise InvalidArgument("password is empty")


def _is_valid(caller: Caller, credentials: Credentials, checker: Checker, host: str, kept: Credential) -> bool:
    """Log in with what is kept already; False if the registry does not take it any more."""
    caller.err(f"Authenticating with existing credentials... [Username: {kept.username}]\n")
    caller.err("\nInfo: To login with a different account, run 'onggi logout' followed by 'onggi login'\n\n")
    try:
        log_in_again(credentials, checker, host, kept)
    except Unauthorized:
        caller.err("Stored credentials invalid or expired\n")
        return False
    return True


def _ask_user(caller: Caller, host: str, username: str, password: str, default: str) -> Credential:
    username, password = username.strip(), password.strip()
    if not (username and password) and not caller.terminal[0]:
        raise InvalidArgument(_NO_TERMINAL)
    if not username:
        if key_of(host) == HUB_KEY:
            caller.out(_REGISTER)
        username = ask(caller, f"Username ({default}): " if default else "Username: ") or default
        if not username:
            raise InvalidArgument("Non-null Username Required")
    if not password:
        password = ask_secret(caller, "Password: ")
        if not password:
            raise InvalidArgument("Password Required")
    return Credential(username=username, password=password)


def _host(server: str) -> str:
    host = registry_of(server)
    if not _HOST.fullmatch(host):
        shown = server.rpartition("@")[2]  # before it may be a password
        raise InvalidArgument(f"{shown!r} is no registry: give HOST or HOST:PORT")
    return host


@click.command(cls=Command)
@single("-u", "--username", help="Username")
@single("-p", "--password", help="Password or access token; other users may see it in the list of processes")
@flag("--password-stdin", help="Take the password or access token from stdin")
@click.argument("server", required=False, default="")
@pass_state
def login(state: State, /, server: str, username: str | None, password: str | None, password_stdin: bool) -> int:
    """Authenticate to a registry, Docker Hub if no SERVER is given."""
    caller = state.caller
    caller.only_in_process()
    with registries_of(caller) as registries:
        return log_in_user(caller, registries, server, username, password, password_stdin=password_stdin)


@click.command(cls=Command)
@click.argument("server", required=False, default="")
@pass_state
def logout(state: State, /, server: str) -> int:
    """Log out from a registry, Docker Hub if no SERVER is given."""
    caller = state.caller
    caller.only_in_process()
    host = _host(server)
    credentials = credentials_of(caller)
    if credentials.erase(host):
        caller.out(f"Removing login credentials for {key_of(host)}\n")
    else:
        caller.out(f"Not logged in to {key_of(host)}\n")
    if left := credentials.locate(host):
        caller.err(f"WARNING: {left.path} has credentials for {host} too, which stay; `podman logout` removes them\n")
    return 0
