"""The config of an image (image-spec config.md), with what Docker adds to it.

An image's id is the digest of this document's raw bytes. A new image made from
an old one keeps what we do not know of the old one's: `unknown_config` has it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from onggi.base.errors import Corrupt

from .digest import ChainID, DiffID, chain_ids
from .json import encode_json, json_decoder, leftovers, merge, parse_json
from .platform import Platform

MAX_IMAGE_CONFIG_BYTES: Final = 8 << 20

Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Strings = tuple[str, ...]


class Healthcheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """HEALTHCHECK: `test` begins with CMD, CMD-SHELL or NONE; times are in nanoseconds, 0 inherits."""

    test: Strings | None = None
    interval: Nanoseconds | None = None
    timeout: Nanoseconds | None = None
    start_period: Nanoseconds | None = None
    start_interval: Nanoseconds | None = None
    retries: int | None = None


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How containers of the image run unless told otherwise; the keys of `exposed_ports` are as `80/tcp`."""

    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    attach_stdin: bool | None = None
    attach_stdout: bool | None = None
    attach_stderr: bool | None = None
    exposed_ports: dict[str, Any] | None = None
    tty: bool | None = None
    open_stdin: bool | None = None
    stdin_once: bool | None = None
    env: Strings | None = None
    cmd: Strings | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool | None = None
    image: str | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    entrypoint: Strings | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: Strings | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: Strings | None = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The layers, lowest first, by the digests of their uncompressed tars."""

    type: str
    diff_ids: tuple[DiffID, ...] | None = None


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step that made the image; `empty_layer` steps have no layer."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole document; `created` is an RFC 3339 time."""

    created: str | None = None
    author: str | None = None
    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: Strings | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None
    config: ContainerConfig | None = None
    rootfs: RootFS
    history: tuple[History, ...] | None = None

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """The layers' DiffIDs, lowest first; none for an image without layers."""
        return self.rootfs.diff_ids or ()

    @property
    def chain_id(self) -> ChainID | None:
        """Name of the whole stack of layers, None without layers."""
        chain = chain_ids(self.diff_ids)
        return chain[-1] if chain else None

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(
            architecture=self.architecture,
            os=self.os,
            os_version=self.os_version,
            os_features=self.os_features,
            variant=self.variant,
        )


_IMAGE_CONFIG: Final = json_decoder(ImageConfig)
_ANY: Final = msgspec.json.Decoder()


def parse_image_config(data: bytes) -> ImageConfig:
    """Read an image's config; raises Corrupt."""
    config = parse_json(data, _IMAGE_CONFIG, "image config", MAX_IMAGE_CONFIG_BYTES, Corrupt)
    if config.rootfs.type != "layers":
        raise Corrupt(f"image config: rootfs.type: expected layers, got {config.rootfs.type!r}")
    return config


def unknown_config(data: bytes) -> dict[str, Any]:
    """What the document has beyond our types, by nested keys (`container_config`, `moby.buildkit…`)."""
    document = parse_json(data, _ANY, "image config", MAX_IMAGE_CONFIG_BYTES, Corrupt)
    return leftovers(document, _ANY.decode(encode_json(parse_image_config(data))))


def print_image_config(config: ImageConfig, unknown: Mapping[str, Any] | None = None) -> bytes:
    """Write a new image's config, on one line, with what is kept of its base image's `unknown_config`."""
    if not unknown:
        return encode_json(config)
    return encode_json(merge(_ANY.decode(encode_json(config)), unknown))
