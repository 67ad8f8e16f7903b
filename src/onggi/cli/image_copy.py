"""`image cp`: an image from one registry to another, of which nothing is stored here."""

import os

import click

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size
from onggi.cli.app import Command, State, pass_state
from onggi.cli.options import flag, single
from onggi.cli.registries import registries_of
from onggi.registry.progress import State as Step
from onggi.spec.platform import machine_platform, parse_platform


@click.command("cp", cls=Command)
@single("--platform", metavar="PLATFORM", help="Copy only the manifest for this platform, as linux/arm64")
@flag("--all-platforms", help="Copy an index with all that it has, as happens without --platform")
@flag("--referrers", help="Copy what refers to the image too: signatures, attestations and the like")
@click.option("--progress", default="auto", help="How to show progress: auto, tty, plain, json or quiet")
@flag("-q", "--quiet", help="Print only the digest")
@click.argument("source")
@click.argument("target")
@pass_state
def copy(
    state: State,
    /,
    source: str,
    target: str,
    platform: str | None,
    all_platforms: bool,
    referrers: bool,
    progress: str,
    quiet: bool,
) -> int:
    """Copy an image from one repository to another, byte for byte; nothing is stored here.

    What TARGET has already is not sent again, and a registry takes from its own repositories what it can.
    """
    from onggi.cli.transfers import PUSH, check_mode, choose_transfers
    from onggi.registry.copying import copy_image, gather
    from onggi.registry.documents import fetch_document, fetch_manifest

    if platform and all_platforms:
        raise InvalidArgument("conflicting options: --platform cannot be used with --all-platforms")
    check_mode(progress)
    caller = state.caller
    caller.only_in_process()
    host = machine_platform(os.uname().machine)
    wanted = parse_platform(platform, host) if platform else None
    with registries_of(caller) as registries:
        origin, goal = (registries.parse(name).with_default_tag() for name in (source, target))
        remote, there = registries.remote(origin), registries.remote(goal)
        root = fetch_document(remote, origin)
        if wanted is not None:
            root = fetch_manifest(remote, root, wanted, strict=True)
        if goal.digest not in (None, root.digest):
            raise InvalidArgument(f"{goal.familiar}: the image is {root.digest}; give TARGET that digest, or a tag")
        words = {**PUSH, Step.UPLOADING: "Copying", Step.READY: "Copied", Step.THERE: "Already exists"}
        transfers = choose_transfers("quiet" if quiet else progress, words, caller)
        try:
            image = gather(remote, root, referrers=referrers)
            copied = copy_image(
                remote, image, there, goal.digest or goal.tag or "", tell=transfers.tell, stop=registries.stop
            )
        finally:
            transfers.finish()
    if quiet:
        caller.out(f"{root.digest}\n")
        return 0
    saved = human_size(copied.total_bytes - copied.sent_bytes, 3)
    caller.out(
        f"{copied.sent} of {copied.blobs} blobs sent, {human_size(copied.sent_bytes, 3)}; "
        f"{copied.mounted} mounted; {saved} saved\n"
        f"{goal.tag or goal.familiar}: digest: {root.digest} size: {len(root.data)}\n"
    )
    return 0
