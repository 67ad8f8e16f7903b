"""The signed Release of an archive: whose it is, until when it counts, and the hashes of its indices.

An InRelease is signed in clear text (RFC 9580, 7): what counts is only the text that
the library says was signed, never the file around it.
"""

from collections.abc import Mapping
from datetime import UTC
from importlib.resources import files
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, NotFound, Unauthorized

from .deb822 import parse_stanzas

MAX_RELEASE_BYTES: Final = 16 << 20
MAX_KEYRING_BYTES: Final = 1 << 20
HOST_KEYRINGS: Final = {"ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}
"""Where an Ubuntu host has its keys; of these only the ones in PINNED count."""
PINNED: Final = {
    "ubuntu": ("790bc7277767219c42c86f933b4fe6acc0b21f32", "f6ecb3762474eda9d21b7022871920d1991bc93c"),
}
_COMPRESSIONS: Final = (".xz", ".gz", "")
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_HEX: Final = frozenset("0123456789abcdef")


class IndexFile(msgspec.Struct, frozen=True):
    """One file that a Release lists, by its name below the suite's directory."""

    name: str
    sha256: str
    size: int


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What a Release says. `date_s` and `until_s` are in seconds since 1970; no `until_s`: it counts for ever."""

    suite: str
    codename: str
    date_s: int
    until_s: int | None
    by_hash: bool
    files: Mapping[str, IndexFile]

    def packages(self, component: str, architecture: str) -> IndexFile:
        """Find the index of a component, the most compressed one. Raises NotFound."""
        name = f"{component}/binary-{architecture}/Packages"
        for compression in _COMPRESSIONS:
            if found := self.files.get(name + compression):
                return found
        raise NotFound(f"{self.codename} has no packages for {architecture} in {component}")


def read_keyring() -> bytes:
    """Give the archive keys of Debian, which are shipped."""
    found = sorted(files("onggi.bootstrap").joinpath("keys").iterdir(), key=lambda file: file.name)
    return b"".join(file.read_bytes() for file in found if file.name.endswith(".asc"))


def pinned_keys(keyring: bytes, distribution: str) -> bytes:
    """Keep of a host's keyring the keys whose fingerprints we know. Raises Unauthorized when there are none."""
    import pysequoia

    known = PINNED[distribution]
    kept = [cert for cert in pysequoia.Cert.split_bytes(keyring) if cert.fingerprint.lower() in known]
    if not kept:
        raise Unauthorized(f"the keyring of this host has no archive key of {distribution} that Onggi knows")
    return b"".join(bytes(cert) for cert in kept)


def verify_release(data: bytes, keyring: bytes, *, where: str) -> Release:
    """Check the signature of an InRelease, and read it. Raises Unauthorized for what no key of ours signed."""
    import pysequoia

    certs = pysequoia.Cert.split_bytes(keyring)
    try:
        verified = pysequoia.verify(data, store=lambda _ids: certs)
    except Exception as error:  # the library has no exception of its own
        raise Unauthorized(
            f"{where} is not signed by an archive key that Onggi knows ({error}); "
            "is this the mirror that you mean, and is Onggi recent enough for this suite?"
        ) from None
    if not verified.valid_sigs or verified.bytes is None:
        raise Unauthorized(f"{where} has no valid signature of an archive key that Onggi knows")
    return parse_release(bytes(verified.bytes), where=where)


def parse_release(data: bytes, *, where: str) -> Release:
    """Read a Release whose signature was checked. Raises Corrupt for one that is not whole."""
    try:
        stanza = next(parse_stanzas(data.decode("utf-8", "replace")), {})
        listed = [_file(line) for line in stanza["SHA256"].split("\n") if line.strip()]
        return Release(
            suite=_plain(stanza.get("Suite", "")),
            codename=_plain(stanza.get("Codename", "")),
            date_s=_seconds(stanza["Date"]),
            until_s=_seconds(stanza["Valid-Until"]) if "Valid-Until" in stanza else None,
            by_hash=stanza.get("Acquire-By-Hash", "") == "yes",
            files={file.name: file for file in listed},
        )
    except (KeyError, ValueError, OverflowError, Corrupt):
        raise Corrupt(f"{where} is not a whole Release file") from None


def _seconds(text: str) -> int:
    from email.utils import parsedate_to_datetime  # late: a command that only runs containers comes by here too

    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:  # "-0000"
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())


def _plain(name: str) -> str:
    """Give the name of a suite, which will be a part of URLs and files. Raises ValueError."""
    if not set(name) <= _NAME or name.startswith(("-", ".")):
        raise ValueError
    return name


def _file(line: str) -> IndexFile:
    sha256, size, name = line.split()
    file = IndexFile(name, sha256.lower(), int(size))
    if len(sha256) != 64 or not set(file.sha256) <= _HEX or file.size < 0 or ".." in name or name.startswith("/"):
        raise ValueError
    return file
