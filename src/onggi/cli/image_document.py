"""The document that `image inspect` prints: Docker's names, what Onggi knows."""

from typing import Any, Final

import msgspec

from onggi.base.units import format_time
from onggi.engine.assemble import Engine
from onggi.spec.digest import DiffID
from onggi.spec.image_config import ContainerConfig
from onggi.spec.reference import parse_reference

_MAPS: Final = ("ExposedPorts", "Labels", "Volumes")
NEVER: Final = "0001-01-01T00:00:00Z"


def image_document(engine: Engine, ref: str) -> dict[str, Any]:
    """Describe one image as `docker image inspect` does. Raises NotFound."""
    image = engine.images.get(ref)
    config = engine.images.config(str(image.id))
    names = [parse_reference(reference) for reference in image.references]
    variant = {"Variant": config.variant} if config.variant else {}
    comment = next((step.comment for step in reversed(config.history or ()) if step.comment), "")
    return {
        "Id": str(image.id),
        "RepoTags": [name.familiar for name in names if name.tag],
        "RepoDigests": [name.familiar for name in names if name.digest],
        "Parent": "",
        "Comment": comment,
        "Created": config.created or "",
        "Author": config.author or "",
        "Config": config_document(config.config or ContainerConfig()),
        "Architecture": config.architecture,
        **variant,
        "Os": config.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Data": {"LowerDir": ":".join(reversed(engine.images.places(image)))}, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": [str(DiffID(diff_id)) for diff_id in config.diff_ids]},
        "Metadata": {"LastTagTime": format_time(image.tagged_ns) if image.tagged_ns else NEVER},
    }


def config_document(config: ContainerConfig) -> dict[str, Any]:
    """Describe how containers of an image run: Docker's fields in its order, then whatever else there is."""
    known: dict[str, Any] = msgspec.to_builtins(config)
    exposed = {"ExposedPorts": known["ExposedPorts"]} if known.get("ExposedPorts") else {}
    document = {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        **exposed,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": "",
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": None,
    }
    maps = {name: dict(sorted(known[name].items())) for name in _MAPS if known.get(name)}
    return {**document, **known, **maps}
