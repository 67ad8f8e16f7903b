"""The host's certificate authorities, for containers behind a proxy that signs for everybody."""

import os
from typing import Final

from onggi.base.errors import NotFound
from onggi.spec.runtime import Mount

BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
TARGET: Final = "/dev/onggi-host-certs.crt"  # in a tmpfs: no trace of it in the layer
CERT_VARIABLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")


def host_certs_mount() -> Mount:
    """Bind the host's bundle, read-only, to where CERT_VARIABLES point. Raises NotFound."""
    for path in BUNDLES:
        if os.path.isfile(path):
            return Mount(destination=TARGET, type="bind", source=os.path.realpath(path), options=("rbind", "ro"))
    raise NotFound(f"--host-certs: this host has no bundle of certificate authorities (looked at {', '.join(BUNDLES)})")
