"""The signed Release of an archive: whose it is, until when it counts, and the hashes of its indices."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib.resources import files
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, Unauthorized
from onggi.bootstrap.packages import parse_stanzas

MAX_RELEASE_BYTES: Final = 16 << 20
KEYRINGS: Final = {"debian": "debian.gpg"}
HOST_KEYRINGS: Final = {"ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}
"""Where an Ubuntu host has its keys; of these only the ones in PINNED count."""
PINNED: Final = {
    "ubuntu": ("790bc7277767219c42c86f933b4fe6acc0b21f32", "f6ecb3762474eda9d21b7022871920d1991bc93c"),
}


class IndexFile(msgspec.Struct, frozen=True):
    """One file that a Release lists."""

    sha256: str
    size: int


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What a Release says. `date_s` is in seconds since 1970."""

    origin: str
    suite: str
    codename: str
    date_s: int
    architectures: tuple[str, ...]
    files: Mapping[str, IndexFile]


def read_keyring(distribution: str) -> bytes:
    """Give the shipped archive keys of a distribution."""
    return (files("onggi.bootstrap") / "keys" / KEYRINGS[distribution]).read_bytes()


def pinned_keys(keyring: bytes, distribution: str) -> bytes:
    """Keep of a host's keyring the keys whose fingerprints we know. Raises Unauthorized when there are none."""
    import pysequoia

    known = PINNED[distribution]
    kept = [cert for cert in pysequoia.Cert.split_bytes(keyring) if cert.fingerprint.lower() in known]
    if not kept:
        raise Unauthorized(f"the keyring of this host has no archive key of {distribution} that Onggi knows")
    return b"".join(bytes(cert) for cert in kept)


def verify_release(data: bytes, keyring: bytes, *, now_s: int, where: str) -> Release:
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
    return parse_release(bytes(verified.bytes), now_s=now_s, where=where)


def parse_release(data: bytes, *, now_s: int, where: str) -> Release:
    """Read a Release whose signature was checked. Raises Corrupt for one that is not whole, or out of date."""
    stanza = next(parse_stanzas(data.decode("utf-8", "replace")), {})
    try:
        date_s = int(parsedate_to_datetime(stanza["Date"]).timestamp())
        if "Valid-Until" in stanza and parsedate_to_datetime(stanza["Valid-Until"]).timestamp() < now_s:
            raise Corrupt(
                f"{where} was valid until {stanza['Valid-Until']}: the mirror is out of date; use another (--mirror)"
            )
        listed = dict(_file(line) for line in stanza["SHA256"].split("\n") if line.strip())
    except (KeyError, ValueError):
        raise Corrupt(f"{where} is not a whole Release file") from None
    return Release(
        origin=stanza.get("Origin", ""),
        suite=stanza.get("Suite", ""),
        codename=stanza.get("Codename", ""),
        date_s=date_s,
        architectures=tuple(stanza.get("Architectures", "").split()),
        files=listed,
    )


def _file(line: str) -> tuple[str, IndexFile]:
    sha256, size, name = line.split()
    return name, IndexFile(sha256.lower(), int(size))
