"""Layers in and out of the engine: made from tars, written as tars."""

from typing import BinaryIO, Final

import msgspec

from onggi.base.errors import Corrupt
from onggi.engine.context import Context
from onggi.spec.digest import DiffID
from onggi.store.layers import Layer
from onggi.store.leases import Lease
from onggi.store.tar.decompress import Source, open_layer
from onggi.store.tar.pack import Hashing, Sink, hash_layer, pack_layer, write_all

_PIECE: Final = 1 << 18


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that was taken in from a stream."""

    layer: Layer
    diff_id: DiffID


def receive_layer(context: Context, source: Source, *, lease: Lease, expected: DiffID | None = None) -> Received:
    """Take in a layer's tar, compressed or not; its uncompressed tar is kept. Raises Corrupt for another DiffID."""
    if expected is not None and (found := context.layers.find(expected, lease=lease)) is not None:
        return Received(layer=found, diff_id=expected)
    stream = open_layer(source)
    buffer = memoryview(bytearray(_PIECE))
    with context.content.receive(lease=lease) as ingest:
        while count := stream.readinto(buffer):
            ingest.write(buffer[:count])
        diff_id = stream.drain()
        if expected is not None and diff_id != expected:
            raise Corrupt(f"a layer is {diff_id}, but the image's config says {expected}; it is damaged")
        ingest.finish()
    return Received(layer=context.layers.receive(diff_id, lease=lease), diff_id=diff_id)


def settle_layer(context: Context, layer: Layer, *, epoch: int | None = None) -> DiffID:
    """Find and record the DiffID of a layer that was made here."""
    if layer.diff_id is not None:
        return layer.diff_id
    fd = context.layers.open(layer.id)
    try:
        diff_id, _ = hash_layer(fd, epoch=epoch)
    finally:
        context.files.close(fd)
    context.layers.settle(layer.id, diff_id, context.files.tree_bytes(context.root.place(layer.place, "fs")))
    return diff_id


class _Counting:
    def write(self, data: memoryview, /) -> int:
        return len(data)


def tar_size(context: Context, layer: Layer) -> int:
    """Find how large the uncompressed tar of a layer is."""
    if layer.tar is not None and (blob := context.content.find(layer.tar)) is not None:
        return blob.size_bytes
    fd = context.layers.open(layer.id)
    try:
        return pack_layer(fd, _Counting()).size_bytes
    finally:
        context.files.close(fd)


def write_tar(context: Context, layer: Layer, sink: Sink) -> None:
    """Write a layer's uncompressed tar and check that it still is what its DiffID says. Raises Corrupt."""
    hashing = Hashing(sink)
    if layer.tar is not None and context.content.find(layer.tar) is not None:
        with context.content.open(layer.tar) as file:
            copy(file, hashing)
    else:
        fd = context.layers.open(layer.id)
        try:
            pack_layer(fd, hashing)
        finally:
            context.files.close(fd)
    if layer.diff_id is not None and hashing.diff_id() != layer.diff_id:
        raise Corrupt(
            f"layer {layer.diff_id} has changed on disk: its files now give {hashing.diff_id()}; "
            "build or load its image again"
        )


def copy(file: BinaryIO, sink: Sink) -> None:
    """Copy a whole file."""
    while data := file.read(_PIECE):
        write_all(sink, data)
