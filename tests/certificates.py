"""Certificates of a private authority, made by the real openssl."""

import subprocess
from pathlib import Path
from typing import Final

_NAMES: Final = ("IP:127.0.0.1", "DNS:localhost")


class Authority:
    """An authority in a directory: `ca` is its certificate."""

    def __init__(self, directory: Path) -> None:
        """Make one."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.ca, self._key = directory / "ca.crt", directory / "ca.key"
        openssl("req", "-x509", "-subj", "/CN=Test authority", "-days", "2", *_new_key(self._key), "-out", self.ca)

    def issue(self, name: str, *more: str, rsa: bool = False) -> Path:
        """Give a file with a certificate for this machine and the hosts `more`, for server and client, and its key."""
        key, request, certificate = (self._directory / f"{name}.{end}" for end in ("key", "csr", "crt"))
        names = self._directory / "names"
        names.write_text(f"subjectAltName={','.join((*_NAMES, *(f'DNS:{host}' for host in more)))}")
        openssl("req", "-new", "-subj", f"/CN={name}", *_new_key(key, rsa=rsa), "-out", request)
        signer = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", names)
        openssl("x509", "-req", "-in", request, *signer, "-out", certificate)
        both = self._directory / f"{name}.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        return both


def openssl(*words: str | Path) -> None:
    """Run openssl."""
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr


def _new_key(path: Path, *, rsa: bool = False) -> tuple[str | Path, ...]:
    kind = ("rsa:2048",) if rsa else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    return ("-newkey", *kind, "-nodes", "-keyout", path)
