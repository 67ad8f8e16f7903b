"""The host's certificate authorities, for containers behind a proxy that signs for everybody."""

import os
from typing import Final

import msgspec

from onggi.base.errors import NotFound

BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
TARGET: Final = "/dev/onggi-host-certs.crt"  # in a tmpfs: no trace of it in the layer
CERT_VARIABLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")


class HostCerts(msgspec.Struct, frozen=True):
    """A bundle of the host, and where a container sees it."""

    source: str
    target: str = TARGET


def find_host_certs() -> HostCerts:
    """Find the host's bundle. Raises NotFound."""
    for path in BUNDLES:
        if os.path.isfile(path):
            return HostCerts(os.path.realpath(path))
    raise NotFound(f"--host-certs: this host has no bundle of certificate authorities (looked at {', '.join(BUNDLES)})")
