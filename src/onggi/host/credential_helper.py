"""Credential helpers: programs `docker-credential-NAME` that keep what registries know us by.

Their protocol is that of github.com/docker/docker-credential-helpers: a verb as the one
argument, text or JSON on stdin, JSON or an error's text on stdout. What is secret goes over
those two only, never into arguments, the environment or an error. Texts of errors are Docker's.
"""

import os
import re
import select
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.base.errors import FailedPrecondition, InvalidArgument, OnggiError, Unavailable
from onggi.spec.json import json_decoder, parse_json
from onggi.spec.registry import Credential

MAX_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 120.0
"""Long: a helper may ask its user for the key of a wallet."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_NOT_FOUND: Final = "credentials not found in native keychain"
_TOKEN_USER: Final = "<token>"
"""The user name beside an identity token."""
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAID_CHARACTERS: Final = 200


class _Kept(msgspec.Struct, rename="pascal"):
    """What `get` prints and `store` takes."""

    server: str = msgspec.field(name="ServerURL", default="")
    username: str = ""
    secret: str = ""


_KEPT: Final = json_decoder(_Kept)
_LIST: Final = json_decoder(dict[str, str])


class _Failed(Exception):
    """The program ended with an error; `output` is what it printed."""

    def __init__(self, problem: str, output: bytes = b"") -> None:
        super().__init__(problem)
        self.output = output.decode("utf-8", "replace").strip()


def get_credential(helper: str, server: str, env: Mapping[str, str]) -> Credential | None:
    """Ask a helper for what it keeps of a server; None if that is nothing."""
    try:
        output = _run(helper, "get", server.encode(), env)
    except _Failed as failed:
        if failed.output == _NOT_FOUND:
            return None
        raise _error(helper, "getting", failed) from None
    kept = parse_json(output, _KEPT, f"docker-credential-{helper} get", MAX_BYTES, Unavailable)
    if not kept.username and not kept.secret:
        return None
    if kept.username == _TOKEN_USER:
        return Credential(identity_token=kept.secret)
    return Credential(username=kept.username, password=kept.secret)


def store_credential(helper: str, server: str, credential: Credential, env: Mapping[str, str]) -> None:
    """Have a helper keep a credential in place of an older one."""
    token = credential.identity_token
    kept = _Kept(
        server=server,
        username=_TOKEN_USER if token else credential.username,
        secret=token or credential.password,
    )
    try:
        data = msgspec.json.encode(kept)
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"docker-credential-{helper} takes text only, and this user name or password is not UTF-8"
        ) from None
    try:
        _run(helper, "store", data + b"\n", env)
    except _Failed as failed:
        raise _error(helper, "storing", failed, kept.secret) from None


def erase_credential(helper: str, server: str, env: Mapping[str, str]) -> bool:
    """Have a helper forget a server; False if it says that there was nothing."""
    try:
        _run(helper, "erase", server.encode(), env)
    except _Failed as failed:
        if failed.output == _NOT_FOUND:
            return False
        raise _error(helper, "erasing", failed) from None
    return True


def list_credentials(helper: str, env: Mapping[str, str]) -> dict[str, str]:
    """List the servers that a helper knows, each with its user name."""
    try:
        output = _run(helper, "list", b"unused", env)
    except _Failed as failed:
        raise _error(helper, "listing", failed) from None
    return parse_json(output, _LIST, f"docker-credential-{helper} list", MAX_BYTES, Unavailable)


def _run(helper: str, verb: str, data: bytes, env: Mapping[str, str]) -> bytes:
    """Run a helper in the user's environment; its stderr is the user's. Raises _Failed."""
    import subprocess  # slow to load, and most users have no helper

    program = _find(helper, env)
    deadline = time.monotonic() + TIMEOUT_S
    with open(os.memfd_create("credential"), "w+b", buffering=0) as stdin:
        stdin.write(data)
        stdin.seek(0)
        try:
            process = subprocess.Popen([program, verb], stdin=stdin, stdout=subprocess.PIPE, env=dict(env))
        except OSError as error:
            raise _Failed(f"exec: {program}: {error.strerror}") from None
    assert process.stdout is not None
    output = bytearray()
    try:
        while chunk := _read(process.stdout.fileno(), deadline):
            output += chunk
            if len(output) > MAX_BYTES:
                raise _Failed(f"it printed more than {MAX_BYTES} bytes")
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _timed_out() from None
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
            process.wait()
    if code:
        raise _Failed(f"exit status {code}" if code > 0 else f"killed by signal {-code}", bytes(output))
    return bytes(output)


def _find(helper: str, env: Mapping[str, str]) -> str:
    """Find the program in the user's PATH, whose relative directories do not count, as for Docker."""
    if not _NAME.fullmatch(helper):
        raise InvalidArgument(f"{helper!r} is no name of a credential helper: letters, digits and any of . _ + -")
    name = f"docker-credential-{helper}"
    for directory in env.get("PATH", _DEFAULT_PATH).split(":"):
        path = f"{directory}/{name}"
        if path.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise _Failed(f'exec: "{name}": executable file not found in $PATH')


def _read(fd: int, deadline: float) -> bytes:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise _timed_out()
    return os.read(fd, 1 << 16)


def _timed_out() -> _Failed:
    return _Failed(f"it did not answer within {TIMEOUT_S:g} seconds")


def _error(helper: str, doing: str, failed: _Failed, secret: str = "") -> OnggiError:
    """Say what failed and what the helper printed: one line of text, never its JSON or what we gave it."""
    said = "".join(char if char.isprintable() else " " for char in failed.output[:_SAID_CHARACTERS])
    if "{" in said or (secret and secret in failed.output):
        said = "***"
    return FailedPrecondition(
        f"error {doing} credentials - err: {failed}, out: `{said}`; mend docker-credential-{helper}, or take it out of "
        "credsStore and credHelpers in the configuration"
    )
