"""`-v`, `--mount`, `--tmpfs` and `--volumes-from`: what they mean, and what is refused with Docker's words."""

from typing import Any, cast

import pytest

from onggi.base.errors import InvalidArgument, NotFound, NotSupported, OnggiError
from onggi.cli.caller import Caller
from onggi.cli.mount_flags import parse_mount, parse_mounts, parse_tmpfs, parse_volume
from onggi.spec.container import MountRequest
from onggi.spec.mounts import check_mounts, parse_volumes_from


class FakeCaller:
    """A user in /here."""

    cwd = "/here"
    env = {"HOME": "/home/me"}  # noqa: RUF012


CALLER = cast("Caller", FakeCaller())


def bind(source: str, target: str = "/t", **more: Any) -> MountRequest:
    """Give a bind mount."""
    return MountRequest(type="bind", source=source, target=target, **more)


def volume(source: str = "", target: str = "/t", **more: Any) -> MountRequest:
    """Give a volume."""
    return MountRequest(type="volume", source=source, target=target, **more)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/t", volume()),
        ("//t/../t/", volume()),
        ("v:/t", volume("v")),
        ("v:/t:ro,nocopy,z", volume("v", read_only=True, copy=False)),
        ("/a/../b:/t", bind("/b", create_source=True)),
        ("./a:/t:rw,Z", bind("/here/a", create_source=True)),
        ("~/a:/t", bind("/home/me/a", create_source=True)),
        ("/a:/t:ro,rshared,cached", bind("/a", read_only=True, propagation="rshared", create_source=True)),
    ],
)
def test_v(text: str, mount: MountRequest) -> None:
    assert parse_volume(text, CALLER) == mount
    check_mounts([mount])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "invalid volume specification: ''"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        (":/t", "invalid volume specification: ':/t'"),
        ("/t:ro", "invalid volume specification: '/t:ro'"),
        ("v:/t:what", "invalid mode: what"),
        ("v:/t:ro,rw", "invalid mode: ro,rw"),
        ("v:/t:rshared,rslave", "invalid mode: rshared,rslave"),
        (
            "v:t",
            "invalid volume specification: 'v:t': invalid mount config for type \"volume\": "
            "invalid mount path: 't' mount path must be absolute",
        ),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
    ],
)
def test_v_that_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_volume(text, CALLER)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/t", volume()),
        ("source=v,dst=/t,volume-nocopy", volume("v", copy=False)),
        ("src=v,destination=/t/,volume-nocopy=false,volume-driver=local", volume("v")),
        ("src=v,target=/t,volume-label=a=b,volume-label=c", volume("v", labels={"a": "b", "c": ""})),
        ("type=bind,src=/a,dst=/t,ro", bind("/a", read_only=True)),
        ("type=bind,src=./a,dst=/t,readonly=true", bind("/here/a", read_only=True)),
        ("type=BIND,src=/a,dst=/t,bind-propagation=RSLAVE", bind("/a", propagation="rslave")),
        ("type=bind,src=/a,dst=/t,bind-recursive=disabled,consistency=cached", bind("/a", recursive=False)),
        ("type=bind,src=/a,dst=/t,bind-nonrecursive", bind("/a", recursive=False)),
        ("type=bind,src=/a,dst=/t,ro,bind-recursive=writable", bind("/a", read_only=True, writable_below=True)),
        (
            "type=bind,src=/a,dst=/t,ro,bind-recursive=readonly,bind-propagation=rprivate",
            bind("/a", read_only=True, propagation="rprivate"),
        ),
        ("type=bind,src=/a,dst=/t,bind-create-src", bind("/a", create_source=True)),
        ('type=bind,"src=/a,b",dst=/t', bind("/a,b")),
        ("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", MountRequest(
            type="tmpfs", target="/t", size_bytes=1 << 20, mode=0o1770)),
    ],
)  # fmt: skip
def test_mount(text: str, mount: MountRequest) -> None:
    assert parse_mount(text, CALLER) == mount
    check_mounts([mount])


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("type=bind,src=/a", InvalidArgument, "target is required"),
        ("what=1,dst=/t", InvalidArgument, "unexpected key 'what' in 'what=1'"),
        ("dst", InvalidArgument, "invalid field 'dst' must be a key=value pair"),
        ("dst=/t,readonly=perhaps", InvalidArgument, "invalid value for readonly: perhaps"),
        ("dst=/t,volume-nocopy=x", InvalidArgument, "invalid value for volume-nocopy: x"),
        ("type=tmpfs,dst=/t,tmpfs-size=x", InvalidArgument, "invalid value for tmpfs-size: x"),
        ("type=tmpfs,dst=/t,tmpfs-mode=9", InvalidArgument, "invalid value for tmpfs-mode: 9"),
        ("type=tmpfs,dst=/t,volume-nocopy", InvalidArgument, "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        ("dst=/t,bind-propagation=shared", InvalidArgument, "cannot mix 'bind-*' options with mount type 'volume'"),
        ("dst=/t,tmpfs-size=1", InvalidArgument, "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        ("type=what,dst=/t", InvalidArgument, 'invalid mount config for type "what": mount type unknown'),
        (
            "type=bind,src=/a,dst=/t,bind-recursive=x",
            InvalidArgument,
            'must be "enabled", "disabled", "writable", or "',
        ),
        ("type=bind,src=/a,dst=/t,bind-recursive=writable", InvalidArgument, "requires 'readonly' to be specified"),
        ("type=bind,src=/a,dst=/t,ro,bind-recursive=readonly", InvalidArgument, "requires 'bind-propagation=rprivate'"),
        ("dst=/t,volume-driver=nfs", NotFound, 'error looking up volume plugin nfs: plugin "nfs" not found'),
        ("dst=/t,volume-opt=type=nfs", NotSupported, "volume-opt: the driver local has no options"),
        ("dst=/t,volume-subpath=x", NotSupported, "volume-subpath: this version of Onggi mounts whole volumes"),
        ("type=image,src=a,dst=/t", NotSupported, "mounts of type image are not in this version of Onggi"),
        ("type=npipe,src=a,dst=/t", NotSupported, "mounts of type npipe are not in this version of Onggi"),
    ],
)
def test_mount_that_is_wrong(text: str, kind: type[OnggiError], problem: str) -> None:
    with pytest.raises(kind) as caught:
        parse_mount(text, CALLER)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        (volume(target=""), "field Target must not be empty"),
        (volume(target="t"), "invalid mount path: 't' mount path must be absolute"),
        (volume(target="//"), "invalid specification: destination can't be '/'"),
        (volume(read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (bind(""), "field Source must not be empty"),
        (bind("a"), "invalid mount path: 'a' mount path must be absolute"),
        (bind("/a", propagation="upwards"), "invalid propagation mode: upwards"),
        (MountRequest(type="tmpfs", target="/t", source="x"), "field Source must not be specified"),
    ],
)
def test_mounts_that_make_no_sense(mount: MountRequest, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_mounts([mount])
    assert str(caught.value) == f'invalid mount config for type "{mount.type}": {problem}'


def test_two_at_one_place() -> None:
    def parse(**options: tuple[str, ...]) -> list[str]:
        found = parse_mounts({"volume": (), "mount": (), "tmpfs": (), **options}, CALLER)
        check_mounts(found)
        return [f"{mount.type} {mount.source}" for mount in found]

    assert parse(volume=("/t", "/t", "/u")) == ["volume ", "volume "]
    assert parse(volume=("/t", "v:/t")) == ["volume v"]
    assert parse(volume=("/t",), tmpfs=("/t",)) == ["tmpfs "]
    for options in ({"volume": ("a:/t", "b:/t/")}, {"volume": ("a:/t",), "mount": ("dst=/t",)}):
        with pytest.raises(InvalidArgument, match="Duplicate mount point: /t"):
            parse(**options)


def test_tmpfs() -> None:
    found = parse_tmpfs("/t/:size=1m,exec,ro")
    assert found == MountRequest(type="tmpfs", target="/t", options=("size=1m", "exec", "ro"), read_only=True)
    with pytest.raises(InvalidArgument, match="mount path must be absolute"):
        check_mounts([parse_tmpfs("t")])


@pytest.mark.parametrize(
    ("text", "found"), [("c", ("c", False)), ("c:ro", ("c", True)), ("c:rw,z", ("c", False)), ("c:", ("c", False))]
)
def test_volumes_from(text: str, found: tuple[str, bool]) -> None:
    assert parse_volumes_from(text) == found


@pytest.mark.parametrize("text", ["", "c:nocopy", "c:rshared", "c:ro,rw", "c:x"])
def test_volumes_from_that_is_wrong(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"invalid mode|empty string"):
        parse_volumes_from(text)
