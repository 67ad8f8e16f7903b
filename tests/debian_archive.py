"""A tiny Debian archive of a test's own: packages, indices, a signed Release, and a server on loopback."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import Final, Self

import pysequoia

SUITE: Final = "bookworm"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
BUILT_S: Final = 1_700_000_000
"""When all its packages were built, unless they say otherwise."""

Files = Mapping[str, bytes | tuple[str, int, bytes]]
"""Path → content (mode 0755 beneath bin/), or (`dir`, mode, b""), (`link`, 0, target), (`file`, mode, content)."""


def ar(*members: tuple[str, bytes], mtime_s: int = BUILT_S) -> bytes:
    """Write an ar archive."""
    data = b"!<arch>\n"
    for name, body in members:
        header = f"{name:<16}{mtime_s:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n"
        data += header.encode() + body + b"\n" * (len(body) % 2)
    return data


def tar_gz(files: Files, mtime_s: int = BUILT_S) -> bytes:
    """Write the data of a package."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, what in files.items():
            kind, mode, content = (
                what if isinstance(what, tuple) else ("file", 0o755 if "bin/" in path else 0o644, what)
            )
            entry = tarfile.TarInfo(f"./{path}")
            entry.mode, entry.mtime = mode, mtime_s
            if kind == "dir":
                entry.type = tarfile.DIRTYPE
            elif kind == "link":
                entry.type, entry.linkname, content = tarfile.SYMTYPE, content.decode(), b""
            entry.size = len(content) if kind == "file" else 0
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


def deb(files: Files, mtime_s: int = BUILT_S) -> bytes:
    """Write a package, which has nothing in its control part."""
    data = tar_gz(files, mtime_s)
    return ar(("debian-binary", b"2.0\n"), ("control.tar.gz", tar_gz({})), ("data.tar.gz", data), mtime_s=mtime_s)


def sha256(data: bytes) -> str:
    """Hash as an index does."""
    return hashlib.sha256(data).hexdigest()


@functools.cache
def archive_key() -> pysequoia.Tsk:
    """Give the key of all archives of a run."""
    return pysequoia.Tsk.generate("Test Archive <archive@test.example>")


def public_key() -> bytes:
    """Give what verifies the archives of a run."""
    return bytes(archive_key().extract_certificate())


def sign(text: str, key: pysequoia.Tsk | None = None) -> bytes:
    """Sign in clear text."""
    return bytes(pysequoia.sign((key or archive_key()).signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR))


class Archive:
    """What a mirror has, by path. Every change of a package needs `publish` to be seen."""

    def __init__(self, base: str = "debian", suite: str = SUITE, architecture: str = ARCHITECTURE) -> None:
        self.base, self.suite, self.architecture = base, suite, architecture
        self.date = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.until: datetime | None = None
        self.names = {"Suite": "oldstable", "Codename": suite}
        self.by_hash = True
        self.files: dict[str, bytes] = {}
        self._stanzas: dict[str, str] = {}

    def add(self, name: str, files: Files, *, version: str = "1", mtime_s: int = BUILT_S, **fields: str) -> str:
        """Add a package; gives the path of its file."""
        data = deb(files, mtime_s)
        path = f"pool/{name}_{version}.deb"
        self.files[f"{self.base}/{path}"] = data
        every = {
            "Package": name,
            "Version": version,
            "Architecture": self.architecture,
            "Filename": path,
            "Size": str(len(data)),
            "SHA256": sha256(data),
            **{field.replace("_", "-"): value for field, value in fields.items()},
        }
        self._stanzas[f"{name} {version}"] = "".join(f"{field}: {value}\n" for field, value in every.items())
        return f"{self.base}/{path}"

    def publish(self, key: pysequoia.Tsk | None = None) -> Self:
        """Write index and Release."""
        packages = gzip.compress("\n".join(self._stanzas.values()).encode(), mtime=0)
        name = f"main/binary-{self.architecture}/Packages.gz"
        place = f"{self.base}/dists/{self.suite}"
        directory = f"{place}/main/binary-{self.architecture}"
        self.files[f"{place}/{name}"] = packages
        if self.by_hash:
            self.files[f"{directory}/by-hash/SHA256/{sha256(packages)}"] = packages
        fields = {
            "Origin": "Test",
            **self.names,
            "Date": format_datetime(self.date, usegmt=True),
            **({"Valid-Until": format_datetime(self.until, usegmt=True)} if self.until else {}),
            **({"Acquire-By-Hash": "yes"} if self.by_hash else {}),
            "SHA256": f"\n {sha256(packages)} {len(packages)} {name}",
        }
        text = "".join(f"{field}: {value}\n" for field, value in fields.items())
        self.files[f"{place}/InRelease"] = sign(text, key)
        return self


Write = Callable[[bytes], object]
Answer = Callable[[Write], object]
"""Writes a whole HTTP answer."""


class Mirror:
    """A server of archives. `asked` are the paths that were asked for; `answers` come before files."""

    def __init__(self, *archives: Archive) -> None:
        self.archives = archives
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mirror._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The URL of the archive at `debian`."""
        return f"{self.host}/debian"

    def debs(self) -> list[str]:
        """List the packages that were asked for."""
        return [path for path in self.asked if path.endswith(".deb")]

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        self.asked.append(path)
        if path in self.answers:
            handler.close_connection = True
            with suppress(OSError):
                self.answers[path](handler.wfile.write)
            return
        found = next((archive.files[path] for archive in self.archives if path in archive.files), None)
        handler.send_response(404 if found is None else 200)
        handler.send_header("Content-Length", str(len(found or b"")))
        handler.end_headers()
        handler.wfile.write(found or b"")


def endless(write: Write) -> None:
    """Answer with a body that does not end."""
    write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        write(b"x" * 65536)


def broken_off(write: Write) -> None:
    """Answer with less than is announced."""
    write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf")


def refused(write: Write) -> None:
    """Answer that this is not for everybody."""
    write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def moved(url: str) -> Answer:
    """Answer that it is elsewhere."""

    def answer(write: Write) -> None:
        write(f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode())

    return answer
