"""`onggi manifest`: lists that are made here, and pushed. tests/clients compares with docker's."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotSupported
from onggi.host.files import Files
from onggi.registry.manifest_lists import print_list
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import Descriptor
from onggi.spec.platform import Platform
from onggi.store import manifest_lists
from onggi.store.manifest_lists import ListedManifest, ManifestList, ManifestLists
from tests.callers import Commands
from tests.registry_server import Call, Registry
from tests.served_images import serve_image, serve_index


class Maker(Commands):
    """Somebody who makes lists of images of one registry."""

    def __init__(self, home: Path, registry: Registry) -> None:
        self.lists = ManifestLists(f"{home}/manifests", f"{home}/lock", Files())
        super().__init__(home, SimpleNamespace(manifest_lists=self.lists))
        self.registry = registry

    def manifest(self, verb: str, *words: str, code: int = 0) -> str:
        """Run a command; `:app:1` is a name at the registry."""
        names = [f"{self.registry.host}/{word[1:]}" if word.startswith(":") else word for word in words]
        return self.run("manifest", verb, *names, code=code)

    def inspect(self, *words: str) -> Any:
        return json.loads(self.manifest("inspect", *words))


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    with Registry() as registry:
        yield Maker(tmp_path, registry)


# -- create and inspect --------------------------------------------------------------------------


def test_a_list_is_made_shown_and_removed(maker: Maker) -> None:
    arm = serve_image(maker.registry, "app", "arm", architecture="arm", variant="v7", docker=True)
    amd = serve_image(maker.registry, "app", "amd", docker=True)
    said = maker.manifest("create", ":app:all", ":app:arm", ":app:amd")
    assert said == f"Created manifest list {maker.registry.host}/app:all\n"
    shown = maker.manifest("inspect", ":app:all")
    assert json.loads(shown) == {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST_LIST,
        "manifests": [
            {
                "mediaType": media.DOCKER_MANIFEST,
                "size": amd["size"],
                "digest": amd["digest"],
                "platform": {"architecture": "amd64", "os": "linux"},
            },
            {
                "mediaType": media.DOCKER_MANIFEST,
                "size": arm["size"],
                "digest": arm["digest"],
                "platform": {"architecture": "arm", "os": "linux", "variant": "v7"},
            },
        ],
    }
    assert shown.startswith('{\n   "schemaVersion": 2,\n   "mediaType"')
    assert maker.manifest("rm", ":app:all") == ""
    maker.manifest("rm", ":app:all", "a", code=1)
    expected = f"No such manifest: {maker.registry.host}/app:all\nNo such manifest: docker.io/library/a:latest\n"
    assert maker.err == f"onggi: {expected}"


def test_more_is_added_only_when_that_was_meant(maker: Maker) -> None:
    for tag in ("1", "2"):
        serve_image(maker.registry, "app", tag, layers=(tag.encode(),))
    maker.manifest("create", ":app:all", ":app:1")
    maker.manifest("create", ":app:all", ":app:2", code=1)
    assert "refusing to amend an existing manifest list with no --amend flag" in maker.err
    maker.manifest("annotate", ":app:all", ":app:1", "--variant", "v3")
    maker.manifest("create", "-a", ":app:all", ":app:2", ":app:1")
    first, second = maker.inspect(":app:all")["manifests"]
    assert first["platform"]["variant"] == "v3"  # what was said of it stays
    assert "variant" not in second["platform"]


def test_what_cannot_be_listed_is_named(maker: Maker) -> None:
    image = serve_image(maker.registry, "app", "1")
    serve_index(maker.registry, "app", "many", image)
    maker.manifest("create", ":app:all", ":app:many", code=1)
    assert f"{maker.registry.host}/app:many is a manifest list" in maker.err
    maker.manifest("create", ":app:all", ":app:1", ":app:none", code=1)
    assert f"onggi: no such manifest: {maker.registry.host}/app:none\n" == maker.err
    maker.manifest("create", "Foo", "a", code=1)
    assert "error parsing name for manifest list Foo: invalid reference format: repository name" in maker.err
    assert not maker.lists.find(f"{maker.registry.host}/app:all")


def test_a_manifest_is_shown_as_it_is_and_verbosely(maker: Maker) -> None:
    image = serve_image(maker.registry, "app", "1")
    raw = maker.registry.manifests["app"][image["digest"]][0]
    assert maker.manifest("inspect", ":app:1") == json.dumps(json.loads(raw), indent="\t") + "\n"
    verbose = {
        "Ref": f"{maker.registry.host}/app:1",
        "Descriptor": {
            "mediaType": media.OCI_MANIFEST,
            "digest": image["digest"],
            "size": image["size"],
            "platform": {"architecture": "amd64", "os": "linux"},
        },
        "Raw": base64.b64encode(raw).decode(),
        "OCIManifest": json.loads(raw),
    }
    assert maker.inspect("-v", ":app:1") == verbose
    maker.manifest("create", ":app:all", ":app:1")
    assert maker.inspect("-v", ":app:all") == [verbose]
    assert maker.inspect("-v", ":app:all", ":app:1") == verbose
    maker.manifest("inspect", ":app:all", ":app:2", code=1)
    assert f"No such manifest: {maker.registry.host}/app:2" in maker.err


def test_a_list_of_a_registry_is_shown_without_an_engine(maker: Maker) -> None:
    image = serve_image(maker.registry, "app")
    serve_index(maker.registry, "app", "1", {**image, "annotations": {"a": "<b>"}})

    class Nobody:
        @property
        def manifest_lists(self) -> ManifestLists:
            raise NotSupported("needs root")

    maker.engine = Nobody()
    (entry,) = maker.inspect(":app:1")["manifests"]
    assert (entry["digest"], entry["annotations"]) == (image["digest"], {"a": "<b>"})
    (verbose,) = maker.inspect("--verbose", ":app:1")
    assert verbose["Ref"] == f"{maker.registry.host}/app:1@{image['digest']}"
    maker.manifest("inspect", ":app:none", code=1)
    assert "no such manifest" in maker.err


# -- annotate ------------------------------------------------------------------------------------


def test_annotations_say_more_of_a_platform(maker: Maker) -> None:
    serve_image(maker.registry, "app", "1", docker=True)
    maker.manifest("create", ":app:all", ":app:1")
    words = ("--os", "windows", "--arch=arm64", "--os-version", "10.0", "--os-features", "a,b", "--os-features=a")
    assert maker.manifest("annotate", *words, "--variant", "v8", ":app:all", ":app:1") == ""
    shown = maker.inspect(":app:all")
    assert shown["mediaType"] == media.DOCKER_MANIFEST_LIST
    assert shown["manifests"][0]["platform"] == {
        "architecture": "arm64",
        "os": "windows",
        "os.version": "10.0",
        "os.features": ["a", "b"],
        "variant": "v8",
    }
    maker.manifest("annotate", ":app:all", ":app:1", "--arch", "s390x", code=1)
    assert "manifest entry for image has unsupported os/arch combination: windows/s390x" in maker.err
    maker.manifest("annotate", ":app:all", "other", code=1)
    assert f"manifest for image other does not exist in {maker.registry.host}/app:all" in maker.err


def test_annotations_of_oci_make_an_index(maker: Maker) -> None:
    serve_image(maker.registry, "app", "1", docker=True)
    maker.manifest("create", ":app:all", ":app:1")
    maker.manifest("annotate", ":app:all", ":app:1", "--annotation", "who=potter", "--annotation=who=x=y")
    maker.manifest("annotate", "--index", "--annotation", "of=all", ":app:all")
    shown = maker.inspect(":app:all")
    assert shown["mediaType"] == media.OCI_INDEX
    assert shown["annotations"] == {"of": "all"}
    assert shown["manifests"][0]["annotations"] == {"who": "x=y"}
    for words, said in (
        ((":app:all",), "requires MANIFEST, or --index"),
        (("--index", ":app:all", ":app:1"), "requires MANIFEST, or --index"),
        (("--index", "--arch", "arm", ":app:all"), "--index cannot be used with a platform"),
        ((":app:all", ":app:1", "--annotation", "x"), "invalid annotation 'x'"),
    ):
        maker.manifest("annotate", *words, code=1)
        assert said in maker.err


# -- push ----------------------------------------------------------------------------------------


def test_a_list_is_pushed_byte_for_byte_and_purged_if_asked(maker: Maker) -> None:
    serve_image(maker.registry, "app", "1")
    serve_image(maker.registry, "app", "2", architecture="arm64")
    maker.manifest("create", ":app:all", ":app:1", ":app:2")
    shown = maker.manifest("inspect", ":app:all").removesuffix("\n").encode()
    digest = Digest.of(shown)
    assert maker.manifest("push", ":app:all") == f"{digest}\n"
    assert maker.registry.manifests["app"][digest] == (shown, media.OCI_INDEX)
    assert maker.registry.tags["app"]["all"] == digest
    assert not maker.registry.lines("POST|PUT .*/blobs/")
    assert maker.manifest("push", "--purge", ":app:all") == f"{digest}\n"
    maker.manifest("push", ":app:all", code=1)
    assert f"No such manifest: {maker.registry.host}/app:all" in maker.err


@pytest.mark.parametrize("mounts", [True, False])
def test_images_of_other_repositories_are_brought_along(maker: Maker, mounts: bool) -> None:
    here = serve_image(maker.registry, "app", "1")
    other = serve_image(maker.registry, "other", "2", architecture="arm64", layers=(b"arm",))

    def without_mounts(call: Call) -> None:
        call.error(405, "UNSUPPORTED") if "mount" in call.asked.query else call.registry.honest(call)

    if not mounts:
        maker.registry.fault("POST", "/uploads/", without_mounts)
    maker.manifest("create", ":app:all", ":app:1", ":other:2")
    said = maker.manifest("push", ":app:all").splitlines()
    name = f"{maker.registry.host}/app@{other['digest']}"
    assert said[0] == f"Pushed ref {name} with digest: {other['digest']}"
    assert {here["digest"], other["digest"], said[1]} == set(maker.registry.manifests["app"])
    assert maker.registry.blobs["other"].items() <= maker.registry.blobs["app"].items()
    assert maker.registry.tags["app"] == {"1": here["digest"], "all": said[1]}
    assert bool(maker.registry.lines("PUT .*app/blobs/uploads")) is not mounts


def test_what_cannot_be_pushed_is_named_and_nothing_is_sent(maker: Maker) -> None:
    serve_image(maker.registry, "app", "1", architecture="")
    maker.manifest("create", ":app:all", ":app:1")
    maker.manifest("push", ":app:all", code=1)
    assert f"manifest {maker.registry.host}/app:1 must have an OS and Architecture to be pushed" in maker.err
    maker.manifest("annotate", ":app:all", ":app:1", "--arch", "amd64")
    with Registry() as elsewhere:
        serve_image(elsewhere, "app", "2")
        maker.manifest("create", "-a", ":app:all", f"{elsewhere.host}/app:2")
        maker.manifest("push", ":app:all", code=1)
        assert "cannot use source images from a different registry than the target image: " in maker.err
    assert not maker.registry.lines("PUT")


# -- what is kept --------------------------------------------------------------------------------


def entry(reference: str, kind: str = media.OCI_MANIFEST) -> ListedManifest:
    descriptor = Descriptor(
        media_type=kind, digest=Digest.of(b"{}"), size=2, platform=Platform(os="linux", architecture="amd64")
    )
    return ListedManifest(reference=reference, descriptor=descriptor, raw=b"{}")


def test_a_list_of_both_kinds_is_an_index() -> None:
    both = ManifestList(reference="a", manifests=(entry("a", media.DOCKER_MANIFEST), entry("b")))
    assert print_list(both)[1] == media.OCI_INDEX


def test_lists_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = ManifestLists(f"{tmp_path}/manifests", f"{tmp_path}/lock", Files())
    many = ManifestList(reference="a", manifests=tuple(entry(str(number)) for number in range(501)))
    with pytest.raises(InvalidArgument, match="has at most 500 manifests"):
        lists.put(many)
    monkeypatch.setattr(manifest_lists, "MAX_LISTS", 1)
    lists.put(ManifestList(reference="a"))
    lists.put(ManifestList(reference="a", annotations={"b": "c"}))
    with pytest.raises(FailedPrecondition, match="onggi manifest rm"):
        lists.put(ManifestList(reference="b"))
    assert lists.get("a").annotations == {"b": "c"}


def test_a_list_that_is_half_written_is_none(tmp_path: Path) -> None:
    def cut(effect: str, path: str) -> None:
        if effect == "rename":
            raise KeyboardInterrupt

    ManifestLists(f"{tmp_path}/manifests", f"{tmp_path}/lock", Files()).put(ManifestList(reference="a"))
    lists = ManifestLists(f"{tmp_path}/manifests", f"{tmp_path}/lock", Files(cut))
    with pytest.raises(KeyboardInterrupt):
        lists.put(ManifestList(reference="a", annotations={"b": "c"}))
    assert lists.get("a") == ManifestList(reference="a")
