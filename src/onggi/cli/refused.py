"""Docker's flags and commands that Onggi does not have, and why: refused by name, never ignored.

A flag whose value asks for what Onggi does anyway is taken.
"""

import os
from collections.abc import Callable
from typing import Final

import click
import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.spec.platform import machine_platform, parse_platform

_LATER: Final = "not in this version of Onggi"


def _is_ours(value: str) -> bool:
    """Tell whether a platform is this machine's."""
    host = machine_platform(os.uname().machine)
    try:
        return parse_platform(value, host) == host
    except InvalidArgument:
        return False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A flag by its names: the reason, and the values that are no more than the default.

    `takes_value`: how it is written. One without a value whose `reason` is "" asks for what is so anyway.
    """

    names: tuple[str, ...]
    reason: str
    takes_value: bool = True
    harmless: Callable[[str], bool] = lambda _value: False

    def option(self) -> click.Option:
        """Make an option that takes the harmless and refuses the rest."""

        def check(ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...] | bool) -> None:
            if ctx.resilient_parsing or not given:
                return
            if isinstance(given, tuple):
                wrong = [value for value in given if not self.harmless(value)]
                if wrong:
                    raise NotSupported(f"{self.names[-1]} {wrong[0]}: {self.reason}")
            elif self.reason:
                raise NotSupported(f"{self.names[-1]}: {self.reason}")

        return click.Option(
            self.names,
            is_flag=None if self.takes_value else True,
            multiple=self.takes_value,
            expose_value=False,
            hidden=True,
            callback=check,
        )


def _values(reason: str, *flags: str, harmless: Callable[[str], bool] = lambda _value: False) -> tuple[Refused, ...]:
    return tuple(Refused(names=tuple(flag.split()), reason=reason, harmless=harmless) for flag in flags)


def _flags(reason: str, *flags: str) -> tuple[Refused, ...]:
    return tuple(Refused(names=tuple(flag.split()), reason=reason, takes_value=False) for flag in flags)


def _one_of(*values: str) -> Callable[[str], bool]:
    return frozenset(values).__contains__


_WINDOWS: Final = "only Windows containers have that"
_HEALTH: Final = f"health checks are {_LATER}; what an image says of its HEALTHCHECK is kept and shown"
_ADDRESSES: Final = f"addresses of one's own are {_LATER}; the bridge network gives each container one"
_NAMES: Final = f"names in a network are {_LATER}; --add-host gives a name to an address"
_RESTART: Final = f"restart policies are {_LATER}; systemd or a supervisor of yours can start it again"
_PLATFORM: Final = "this version of Onggi runs programs of this machine's platform only"
_BUILD_LIMITS: Final = f"limits for build steps are {_LATER}"
_ATTESTATIONS: Final = f"attestations are {_LATER}"
_CHANGE: Final = f"instructions for the new image are {_LATER}; a Dockerfile that begins with FROM it gives them"

_CREATE: Final = (
    *_values(f"annotations are {_LATER}; --label is kept and shown", "--annotation"),
    *_values(_WINDOWS, "--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"),
    *_values(f"GPUs are {_LATER}; --device gives single devices of the host", "--gpus"),
    *_values(
        _HEALTH,
        *("--health-cmd", "--health-interval", "--health-retries"),
        *("--health-start-interval", "--health-start-period", "--health-timeout"),
    ),
    *_values(_ADDRESSES, "--ip", "--ip6", "--link-local-ip", "--mac-address"),
    *_values(_NAMES, "--link", "--network-alias", "--net-alias"),
    *_values("kernels since 5.11 have no limit of kernel memory alone; use --memory", "--kernel-memory"),
    *_values(_RESTART, "--restart", harmless=_one_of("no", "")),
    *_values("containers are started by Onggi's own launcher; --isolation chooses the wall", "--runtime"),
    *_values(f"quotas for root file systems are {_LATER}", "--storage-opt"),
    *_values(
        "--uidmap and --gidmap give a container a user namespace of its own",
        "--userns",
        harmless=_one_of("host", ""),
    ),
    *_values(f"drivers of volumes are {_LATER}", "--volume-driver", harmless=_one_of("local", "")),
    *_flags(f"the Docker API is {_LATER}", "--use-api-socket"),
    # No image is signed, and no health check runs.
    *_flags("", "--disable-content-trust", "--no-healthcheck"),
)
_TAR: Final = (*_values(_CHANGE, "-c --change"), *_values(_PLATFORM, "--platform", harmless=_is_ours))

FLAGS: Final[dict[str, tuple[Refused, ...]]] = {
    "run": _CREATE,
    "create": (
        *_CREATE,
        *_values("a container is attached when it is started: `onggi start --attach`", "-a --attach"),
    ),
    "update": (
        *_values(_RESTART, "--restart", harmless=_one_of("no")),
        *_values("kernels since 5.11 have no limit of kernel memory alone; use --memory", "--kernel-memory"),
    ),
    "start": _values(f"checkpoints are {_LATER}", "--checkpoint", "--checkpoint-dir"),
    "rm": _flags(f"links between containers are {_LATER}", "-l --link"),
    "rmi": (
        *_flags("", "--no-prune"),  # images have no parents that could stay
        *_values(_PLATFORM, "--platform", harmless=_is_ours),
    ),
    "commit": _values(_CHANGE, "-c --change"),
    "import": _TAR,
    "save": _values(_PLATFORM, "--platform", harmless=_is_ours),
    "load": _values(_PLATFORM, "--platform", harmless=_is_ours),
    "push": _flags("", "--disable-content-trust"),
    "history": _values(_PLATFORM, "--platform", harmless=_is_ours),
    "build": (
        *_values(f"caches outside of this state root are {_LATER}", "--cache-from", "--cache-to"),
        *_values(
            _BUILD_LIMITS,
            *("--cgroup-parent", "--cpu-period", "--cpu-quota", "-c --cpu-shares", "--cpuset-cpus", "--cpuset-mems"),
            *("-m --memory", "--memory-swap", "--shm-size", "--ulimit"),
        ),
        *_values(f"other walls for build steps are {_LATER}", "--isolation", harmless=_one_of("", "default")),
        *_values(f"entitlements and security options of build steps are {_LATER}", "--allow", "--security-opt"),
        *_values(f"annotations are {_LATER}; --label is kept and shown", "--annotation"),
        *_values(_ATTESTATIONS, "--attest"),
        *_values(_ATTESTATIONS, "--provenance", "--sbom", harmless=_one_of("false")),
        *_values("Onggi builds by itself, there are no builders to choose from", "--builder"),
        *_values(f"checks without a build are {_LATER}", "--call"),
        *_flags(f"checks without a build are {_LATER}", "--check"),
        *_values(f"metadata files are {_LATER}; --iidfile writes the image's id", "--metadata-file"),
        *_values(f"running single stages anew is {_LATER}; --no-cache runs all", "--no-cache-filter"),
        *_values(f"other outputs are {_LATER}; `onggi save` and `onggi export` write archives", "-o --output"),
        *_values(f"secrets and agents for build steps are {_LATER}", "--secret", "--ssh"),
        *_flags("`onggi push` sends an image that was built", "--push"),
        *_flags(f"squashing is {_LATER}; a last stage with COPY --from= has one layer", "--squash"),
        # There is no daemon to send the context to, and steps leave no containers.
        *_flags("", "--compress", "--force-rm", "--rm", "--load", "--disable-content-trust"),
    ),
}
"""By command; management forms have the same."""

_ORCHESTRATION: Final = f"swarms are {_LATER}"
COMMANDS: Final = {
    "trust": f"signatures by Notary are {_LATER}",
    **dict.fromkeys(("swarm", "node", "service", "stack", "secret", "config"), _ORCHESTRATION),
    "network": f"networks of one's own are {_LATER}: there are bridge, none, host and container:NAME",
    "buildx": "Onggi builds by itself: `onggi build`, `onggi builder`",
    "checkpoint": f"checkpoints are {_LATER}",
    "compose": f"Compose is {_LATER}",
    "context": "Onggi works on this machine; --root chooses another state",
    "plugin": f"plugins are {_LATER}",
}
"""Commands of Docker, wherever they stand."""


def refused_names(command: str) -> list[str]:
    """List the flags of a command that are known here."""
    return [name for one in FLAGS.get(command, ()) for name in one.names]


def refused_options(command: str, flag: str) -> list[click.Option]:
    """Give a command the options that it is to refuse, if `flag` is one of them."""
    known = FLAGS.get(command, ())
    return [one.option() for one in known] if any(flag in one.names for one in known) else []
