"""`manifest`: lists of manifests, made here and pushed. Texts are Docker's (docker/cli's cli/command/manifest)."""

import re
from collections.abc import Iterable
from typing import Any, Final

import click
import msgspec

from onggi.base.errors import InvalidArgument, NotFound, NotSupported, OnggiError, PermissionDenied
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.options import flag, repeated, single, with_options
from onggi.cli.registries import registries_of
from onggi.registry.access import Registries
from onggi.registry.manifest_lists import check_platform, fetch_list, fetch_listed, print_list, push_list
from onggi.spec import media
from onggi.spec.platform import Platform
from onggi.spec.reference import Reference
from onggi.store.manifest_lists import ListedManifest, ManifestList, ManifestLists

_INSECURE: Final = flag("--insecure", help="Talk to the registry without TLS, or with a certificate that nobody knows")
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)


def register(cli: Group) -> None:
    """Add them."""
    group = Group("manifest", help="Manage manifest lists: one name for images of several platforms")
    for command in (create, annotate, inspect, push, remove):
        # Its own name is the whole one: those of other groups have other flags, and refuse others.
        group.add_command(command, (command.name or "").removeprefix("manifest "))
    cli.add_command(group)


@click.command("manifest create", cls=Command)
@flag("-a", "--amend", help="Add to a list that is here already")
@_INSECURE
@click.argument("manifest_list")
@click.argument("manifests", nargs=-1, required=True)
@pass_state
def create(state: State, /, manifest_list: str, manifests: tuple[str, ...], amend: bool, insecure: bool) -> int:
    """Make a manifest list of images that registries have; `push` brings it to one."""
    state.caller.only_in_process()
    with registries_of(state.caller) as registries:
        target = _parse(registries, manifest_list, f"error parsing name for manifest list {manifest_list}")
        lists = state.engine.manifest_lists
        known = _begun(lists, target, amend=amend)
        references = [_parse(registries, name) for name in manifests]
        fetched = [
            fetch_listed(registries.remote(reference, insecure=insecure), reference)
            for reference in references
            if known.find(str(reference)) is None
        ]
    with lists.changing():
        known = _begun(lists, target, amend=amend)
        for listed in fetched:
            known = known.with_manifest(listed)
        lists.put(known)
    state.caller.out(f"Created manifest list {target}\n")
    return 0


def _begun(lists: ManifestLists, target: Reference, *, amend: bool) -> ManifestList:
    found = lists.find(str(target))
    if found is not None and not amend:
        raise InvalidArgument("refusing to amend an existing manifest list with no --amend flag")
    return found or ManifestList(reference=str(target))


_PLATFORM: Final = (
    single("--arch", help="Architecture", metavar="ARCH"),
    single("--os", "system", help="Operating system", metavar="OS"),
    repeated("--os-features", help="Features of the operating system, with commas between them"),
    single("--os-version", help="Version of the operating system"),
    single("--variant", help="Variant of the architecture, as v7"),
)


@click.command("manifest annotate", cls=Command)
@with_options(_PLATFORM)
@repeated("--annotation", help="Annotation NAME=VALUE, which makes the list an OCI index", metavar="TEXT")
@flag("--index", help="Annotate the list itself; no MANIFEST is given then")
@click.argument("manifest_list")
@click.argument("manifest", required=False)
@pass_state
def annotate(
    state: State,
    /,
    manifest_list: str,
    manifest: str | None,
    arch: str | None,
    system: str | None,
    os_features: tuple[str, ...],
    os_version: str | None,
    variant: str | None,
    annotation: tuple[str, ...],
    index: bool,
) -> int:
    """Say more about a manifest of a list that is here."""
    fields = {"architecture": arch, "os": system, "os_version": os_version, "variant": variant}
    given = {name: value for name, value in fields.items() if value}
    features = [feature for text in os_features for feature in text.split(",") if feature]
    annotations = _annotations(annotation)
    if index == (manifest is not None):
        raise InvalidArgument("'onggi manifest annotate' requires MANIFEST, or --index instead of it")
    if index and (given or features):
        raise InvalidArgument("conflicting options: --index cannot be used with a platform, which manifests have")
    with registries_of(state.caller) as registries:
        target = _parse(registries, manifest_list, f"annotate: error parsing name for manifest list {manifest_list}")
        image = (
            _parse(registries, manifest, f"annotate: error parsing name for manifest {manifest}") if manifest else None
        )
    lists = state.engine.manifest_lists
    with lists.changing():
        if image is None:
            found = lists.get(str(target))
            lists.put(msgspec.structs.replace(found, annotations={**(found.annotations or {}), **annotations} or None))
            return 0
        known = lists.find(str(target))
        listed = known.find(str(image)) if known else None
        if known is None or listed is None:
            raise NotFound(f"manifest for image {manifest} does not exist in {manifest_list}")
        lists.put(known.with_manifest(_annotated(listed, given, features, annotations)))
    return 0


def _annotated(
    listed: ListedManifest, given: dict[str, str], features: Iterable[str], annotations: dict[str, str]
) -> ListedManifest:
    descriptor = listed.descriptor
    platform = msgspec.structs.replace(descriptor.platform or Platform(), **given)
    every = tuple(dict.fromkeys((*(platform.os_features or ()), *features)))
    platform = msgspec.structs.replace(platform, os_features=every or None)
    check_platform(platform)
    described = msgspec.structs.replace(
        descriptor, platform=platform, annotations={**(descriptor.annotations or {}), **annotations} or None
    )
    return msgspec.structs.replace(listed, descriptor=described)


def _annotations(texts: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"invalid annotation {text!r}: write NAME=VALUE")
        found[name] = value
    return found


@click.command("manifest inspect", cls=Command)
@_INSECURE
@flag("-v", "--verbose", help="Show platforms, and the manifests of a list themselves")
@click.argument("names", nargs=-1, required=True, metavar="[MANIFEST_LIST] MANIFEST")
@pass_state
def inspect(state: State, /, names: tuple[str, ...], insecure: bool, verbose: bool) -> int:
    """Show a manifest or a manifest list: one that is here, else what its registry has."""
    if len(names) > 2:
        raise InvalidArgument("'onggi manifest inspect' requires at least 1 and at most 2 arguments")
    caller = state.caller
    caller.only_in_process()
    with registries_of(caller) as registries:
        reference = _parse(registries, names[-1])
        found: ListedManifest | ManifestList | None
        if len(names) == 2:
            known = state.engine.manifest_lists.find(str(_parse(registries, names[0])))
            found = known.find(str(reference)) if known else None
            if found is None:
                raise NotFound(f"No such manifest: {reference}")
        else:
            found = _local(state, reference) or fetch_list(registries.remote(reference, insecure=insecure), reference)
    if isinstance(found, ListedManifest):
        caller.out(_indented(msgspec.json.encode(_verbose(found)) if verbose else found.raw))
    elif verbose:
        caller.out(_indented(msgspec.json.encode([_verbose(one) for one in found.manifests])))
    else:
        caller.out(print_list(found)[0].decode() + "\n")
    return 0


def _local(state: State, reference: Reference) -> ManifestList | None:
    try:
        return state.engine.manifest_lists.find(str(reference))
    except (NotSupported, PermissionDenied):  # who has no state root has no lists
        return None


def _verbose(listed: ListedManifest) -> dict[str, Any]:
    kind = "SchemaV2Manifest" if listed.descriptor.media_type == media.DOCKER_MANIFEST else "OCIManifest"
    descriptor = listed.descriptor
    platform = msgspec.to_builtins(descriptor.platform) if descriptor.platform else None
    return {
        "Ref": listed.reference,
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
            **({"annotations": descriptor.annotations} if descriptor.annotations else {}),
            **({"platform": {"architecture": "", "os": "", **platform}} if platform is not None else {}),
        },
        "Raw": listed.raw,
        kind: _RAW.decode(listed.raw),
    }


def _indented(data: bytes) -> str:
    """Lay out JSON with tabs, as Go's json.Indent does."""
    text = msgspec.json.format(data, indent=1).decode("utf-8", "replace")
    return re.sub("^ +", lambda spaces: "\t" * len(spaces[0]), text, flags=re.MULTILINE) + "\n"


@click.command("manifest push", cls=Command)
@_INSECURE
@flag("-p", "--purge", help="Remove the list here when it is pushed")
@click.argument("manifest_list")
@pass_state
def push(state: State, /, manifest_list: str, insecure: bool, purge: bool) -> int:
    """Push a manifest list to the registry under its name, and print its digest."""
    caller = state.caller
    caller.only_in_process()
    with registries_of(caller) as registries:
        target = _parse(registries, manifest_list)
        lists = state.engine.manifest_lists
        digest = push_list(
            lists.get(str(target)),
            lambda reference: registries.remote(reference, insecure=insecure),
            pushed=lambda name, digest: caller.out(f"Pushed ref {name} with digest: {digest}\n"),
            stop=registries.stop,
        )
    caller.out(f"{digest}\n")
    if purge:
        with lists.changing():
            lists.remove(str(target))
    return 0


@click.command("manifest rm", cls=Command)
@click.argument("manifest_lists", nargs=-1, required=True)
@pass_state
def remove(state: State, /, manifest_lists: tuple[str, ...]) -> int:
    """Remove manifest lists that are here; what was pushed stays."""
    problems = []
    with registries_of(state.caller) as registries:
        lists = state.engine.manifest_lists
        for name in manifest_lists:
            try:
                reference = _parse(registries, name)
                with lists.changing():
                    lists.remove(str(reference))
            except OnggiError as error:
                problems.append(str(error))
    if problems:
        state.caller.err("onggi: " + "\n".join(problems) + "\n")
    return 1 if problems else 0


def _parse(registries: Registries, name: str, problem: str = "") -> Reference:
    try:
        return registries.parse(name).with_default_tag()
    except InvalidArgument as error:
        raise InvalidArgument(f"{problem}: {error}" if problem else str(error)) from None
