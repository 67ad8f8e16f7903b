"""The mounts of RUN, as BuildKit reads them.

data/dockerfile/mounts.json was recorded from BuildKit 0.25.1 with WORKDIR /w and v=V: the value of --mount, its error,
and the mount in its build graph.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import NotSupported, OnggiError
from onggi.build.dockerfile.expand import ExpansionError, expand_word
from onggi.build.dockerfile.instructions import Run
from onggi.build.dockerfile.mounts import BuildMount, mount_origin, parse_mounts
from onggi.build.dockerfile.parser import parse_dockerfile

FACTS = json.loads((Path(__file__).parent / "data/dockerfile/mounts.json").read_text())


def parse_run(mount: str) -> Run:
    """Give the RUN with this --mount."""
    run = parse_dockerfile(f"FROM a\nRUN --mount={mount} cmd\n").stages[0].instructions[0]
    assert isinstance(run, Run)
    return run


def read(mount: str, workdir: str | None = "/w") -> BuildMount:
    """Give the one mount, expanded with v=V."""
    (found,) = parse_mounts(parse_run(mount), lambda word: expand_word(word, {"v": "V"}), workdir=workdir)
    return found


@pytest.mark.parametrize(("text", "error", "fact"), FACTS, ids=[text for text, _, _ in FACTS])
def test_as_buildkit(text: str, error: str | None, fact: str | None) -> None:
    if error is not None:
        with pytest.raises(OnggiError) as caught:
            read(text)
        assert error in str(caught.value)
        return
    mount = read(text)
    assert fact is not None
    assert f'dest:"{mount.target}"' in fact
    assert mount.readonly is ("readonly:true" in fact)
    assert mount.type == ("cache" if "CACHE" in fact else "tmpfs" if "TMPFS" in fact else "bind")
    assert f"size:{mount.size}}}" in fact if mount.size else "size" not in fact
    assert f"sharing:{mount.sharing.upper()}" in fact if mount.sharing else "sharing" not in fact
    if mount.type == "cache":
        assert f'ID:"/{mount.id}"' in fact


def test_errors_name_the_line() -> None:
    with pytest.raises(OnggiError) as caught:
        read("typ=tmpfs,target=/x")
    assert str(caught.value) == (
        "Dockerfile:2: RUN: unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)\n"
        "  2 | RUN --mount=typ=tmpfs,target=/x cmd"
    )


def test_the_attributes_of_a_cache() -> None:
    mount = read("type=cache,target=/x,uid=5,gid=6,mode=0700,from=y,source=s")
    assert mount == BuildMount(
        type="cache", target="/x", readonly=False, id="/x", uid=5, gid=6, mode=0o700, from_="y", source="s"
    )


def test_a_writable_bind() -> None:
    assert read("target=/x,rw") == BuildMount(target="/x", readonly=False)
    assert not read("target=/x,readonly=false").readonly


def test_without_a_workdir_the_target_stays_as_it_is() -> None:
    assert read("target=a/../b", workdir=None).target == "a/../b"


def test_a_type_may_turn_out_to_be_not_supported() -> None:
    run = parse_run("type=$t")
    with pytest.raises(NotSupported, match=r"^Dockerfile:2: RUN --mount=type=secret is not supported"):
        parse_mounts(run, lambda _: "secret")


def test_an_unset_variable_that_must_be_set() -> None:
    with pytest.raises(ExpansionError, match=r"u: is not allowed to be unset"):
        read("target=${u:?}")


def test_the_origin_is_known_before_expansion() -> None:
    assert mount_origin(parse_run("from=x,target=$y").mounts[0]) == "x"
    assert mount_origin(parse_run("type=cache,target=$y").mounts[0]) is None


@given(st.lists(st.text('type=cbindmpfs/,ro"$v ', max_size=20), max_size=4))
def test_any_mount_is_read_or_explained(fields: list[str]) -> None:
    text = ",".join(fields).replace(" ", "").replace('"', '\\"')
    try:
        mount = read(text or "x")
    except OnggiError:
        return
    assert mount.target.startswith("/")
    assert mount.type in ("bind", "cache", "tmpfs")
