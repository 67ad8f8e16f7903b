"""The vocabulary of plans: about forty kinds of frozen ops without any policy.

A `Plan` is what Onggi will ask of the kernel to start, supervise and clear away
one process. It is four flat tuples, executed in order by the C launcher:

    before   the launcher, until it clones (`Clone` is the last op)
    child    the new process, until it becomes the payload (`Exec` is the last op)
    beside   the launcher, while the child works; ends in `Supervise`
    after    the launcher, once the child is gone or anything above failed

No op branches or loops. The only names are slots: descriptors, each written by
one op and read by later ones. The child sees what `before` wrote; afterwards the
two sides share nothing but `Tell`/`Await` and `Send`/`Receive`. An op may look at
its own object (a mask sees whether its path is a file or a directory), nothing
else. `tolerate` lists errno values with which an op counts as done.

Paths: `at=None` means a path of the host as the launcher's caller sees it. With
`at` a slot, the path is resolved beneath that descriptor only, and no symbolic
link or `..` leads out of it (openat2: RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS).
"""

from enum import StrEnum

import msgspec

Slot = str
"""Name of a descriptor within one plan."""


class Hole(StrEnum):
    """What only the launcher knows, spliced into a template while the plan runs."""

    PID = "pid"  # the child's pid, in decimal
    PID_U32 = "pid:u32"  # the same, four bytes native
    NOW = "now"  # CLOCK_REALTIME in nanoseconds, decimal


class SlotHole(msgspec.Struct, frozen=True):
    """The number of a descriptor: in decimal, or four bytes native (netlink attributes)."""

    slot: Slot
    binary: bool = False


class LinkHole(msgspec.Struct, frozen=True):
    """The index of the link eth<number> in the network namespace that the launcher is in: four bytes native."""

    number: int = 0


Part = bytes | Hole | SlotHole | LinkHole
Data = bytes | tuple[Part, ...]
OptionValue = str | tuple[Part, ...] | SlotHole | None


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all ops."""

    tolerate: tuple[int, ...] = ()


# -- descriptors and files -----------------------------------------------------------------------


class Inherit(Op, frozen=True, kw_only=True):
    """Take over the descriptor that the caller gave at this position."""

    slot: Slot
    position: int


class OpenPath(Op, frozen=True, kw_only=True):
    """openat2: `flags` are the OPEN_* of abi.py."""

    slot: Slot
    path: str
    flags: int
    at: Slot | None = None
    mode: int = 0


class Close(Op, frozen=True, kw_only=True):
    """Let a descriptor go; for a namespace or a detached mount this may be its end."""

    slot: Slot


class Lock(Op, frozen=True, kw_only=True):
    """Take an OFD write lock on the whole file: the sign of life that others probe.

    A plan that fails at its lock or before ends there: what `after` would clear away
    may belong to whoever holds it.
    """

    slot: Slot


class Listen(Op, frozen=True, kw_only=True):
    """Make a listening SOCK_SEQPACKET unix socket, mode 0600, named beneath a directory."""

    slot: Slot
    at: Slot
    path: str


class Pipe(Op, frozen=True, kw_only=True):
    """pipe2(2); with `uid` it belongs to that user, who can then open /dev/stdout anew."""

    reader: Slot
    writer: Slot
    uid: int = 0


class MakeDirectory(Op, frozen=True, kw_only=True):
    """mkdirat; the parents are there."""

    path: str
    mode: int = 0o755
    at: Slot | None = None


class WriteFile(Op, frozen=True, kw_only=True):
    """Write to an existing file in one write(2), as the files of procfs and cgroupfs want it.

    `if_empty`: leave it alone where it says anything already.
    """

    path: str
    data: Data
    at: Slot | None = None
    if_empty: bool = False


class PutFile(Op, frozen=True, kw_only=True):
    """Write a new file under a staged name and rename it into place."""

    path: str
    data: Data
    at: Slot | None = None
    mode: int = 0o600


class Remove(Op, frozen=True, kw_only=True):
    """unlinkat; with `tree`, everything below too, never crossing a mount or following a link."""

    path: str
    at: Slot | None = None
    directory: bool = False
    tree: bool = False


# -- mounts --------------------------------------------------------------------------------------


class NewFs(msgspec.Struct, frozen=True, kw_only=True):
    """A new file system (fsopen, fsconfig, fsmount).

    `options` are in fsconfig order: (key, None) is a flag, (key, text) or a template a
    string of at most 255 bytes, (key, SlotHole) a descriptor. `owner` is the file system uid and gid
    that creates it: the mapped root, for an overlay of a user namespace.
    """

    type: str
    options: tuple[tuple[str, OptionValue], ...] = ()
    source: str | None = None
    owner: tuple[int, int] = (0, 0)


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A detached clone of a mounted tree (open_tree, OPEN_TREE_CLONE); path "" is `at` itself."""

    path: str
    at: Slot | None = None
    recursive: bool = False
    follow: bool = True


class Open(Op, frozen=True, kw_only=True):
    """Obtain a detached mount and restrict it, before anybody can see it.

    `set` and `clear` are MOUNT_ATTR_* bits, `recursive_set`/`recursive_clear` the same for the whole tree;
    `idmap` is a slot with a user namespace.
    """

    slot: Slot
    origin: NewFs | Tree
    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    recursive_propagation: bool = False
    idmap: Slot | None = None


class Attach(Op, frozen=True, kw_only=True):
    """Show a detached mount at a place beneath `root` (move_mount)."""

    slot: Slot
    root: Slot
    target: str


class AttachRoot(Op, frozen=True, kw_only=True):
    """Show the detached rootfs over `/` of this mount namespace, so that others can be attached beneath it."""

    slot: Slot


class MakeTarget(Op, frozen=True, kw_only=True):
    """Make a directory or empty file beneath `root`, parents too, where nothing is there yet.

    With `like` a slot, it becomes a directory exactly if what the slot holds is one.
    """

    root: Slot
    path: str
    directory: bool = True
    like: Slot | None = None
    mode: int = 0o755


class MakeNode(Op, frozen=True, kw_only=True):
    """mknodat with exactly this mode and owner; `device` as abi.makedev gives it."""

    root: Slot
    path: str
    mode: int
    device: int
    uid: int = 0
    gid: int = 0


class MakeLink(Op, frozen=True, kw_only=True):
    """symlinkat."""

    root: Slot
    path: str
    text: str


class Mask(Op, frozen=True, kw_only=True):
    """Hide a path: a directory behind a clone of `empty`, anything else behind a clone of `null`."""

    root: Slot
    path: str
    null: Slot
    empty: Slot


class MakeReadOnly(Op, frozen=True, kw_only=True):
    """Cover a path with a read-only clone of itself (recursive)."""

    root: Slot
    path: str


class Restrict(Op, frozen=True, kw_only=True):
    """Change attributes (MOUNT_ATTR_*) or propagation of a mount that a slot holds already."""

    slot: Slot
    set: int = 0
    propagation: int = 0
    recursive: bool = False


class Propagate(Op, frozen=True, kw_only=True):
    """Set the propagation of the mount at `/` of this mount namespace."""

    propagation: int
    recursive: bool = True


class PivotRoot(Op, frozen=True, kw_only=True):
    """Make `root` the root of this mount namespace and let the old one go; cwd is `/` then."""

    root: Slot


# -- namespaces and processes ----------------------------------------------------------------------


class Clone(Op, frozen=True, kw_only=True):
    """clone3 the child. `cgroup` (v2 only) is where it is born."""

    namespaces: int
    pidfd: Slot
    proc: Slot
    cgroup: Slot | None = None


class EnterCgroup(Op, frozen=True, kw_only=True):
    """Go on in a new process that is born in the v2 cgroup (CLONE_INTO_CGROUP), with the same parent.

    Writing `cgroup.procs` instead waits for an RCU grace period. What belongs to a process
    alone (its session, its children) does not come along.
    """

    cgroup: Slot


class Reclone(Op, frozen=True, kw_only=True):
    """clone3 once more, as a child of the launcher (CLONE_PARENT); the rest of the plan runs in the new process.

    For a joined user namespace: only what is made by a process in it belongs to it,
    and a pid namespace shows only in children. The launcher must `Adopt` it.
    """

    namespaces: int


class Adopt(Op, frozen=True, kw_only=True):
    """Take what the child `Reclone`d for the child from now on, and reap the first one."""

    pidfd: Slot
    proc: Slot


class SetNamespace(Op, frozen=True, kw_only=True):
    """setns(2); `types` are CLONE_NEW* bits (several for a pidfd)."""

    slot: Slot
    types: int


class Unshare(Op, frozen=True, kw_only=True):
    """unshare(2) of namespaces."""

    types: int


class Tell(Op, frozen=True, kw_only=True):
    """Let the other side pass its `Await` of the same name."""

    name: str


class Await(Op, frozen=True, kw_only=True):
    """Wait for the other side's `Tell`; its failure ends the wait too."""

    name: str


class Send(Op, frozen=True, kw_only=True):
    """Hand a descriptor to the other side."""

    slot: Slot


class Receive(Op, frozen=True, kw_only=True):
    """Take the descriptor that the other side sends."""

    slot: Slot


class SetHostname(Op, frozen=True, kw_only=True):
    """sethostname(2)."""

    name: str


class SetDomainname(Op, frozen=True, kw_only=True):
    """setdomainname(2)."""

    name: str


class SetResourceLimit(Op, frozen=True, kw_only=True):
    """prlimit(2) on oneself."""

    resource: int
    soft: int
    hard: int


class SetDeathSignal(Op, frozen=True, kw_only=True):
    """PR_SET_PDEATHSIG; then look whether the launcher is already gone. Any change of ids clears it."""

    signal: int


class SetUndumpable(Op, frozen=True, kw_only=True):
    """PR_SET_DUMPABLE 0: no process of a joined namespace can ptrace this one."""


class DropBounding(Op, frozen=True, kw_only=True):
    """PR_CAPBSET_DROP of everything that is not in `keep` (a capability bit mask)."""

    keep: int


class SetIds(Op, frozen=True, kw_only=True):
    """setgroups, setresgid, setresuid, keeping permitted capabilities; `groups=None` leaves the groups alone."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None = ()


class SetCapabilities(Op, frozen=True, kw_only=True):
    """capset and the ambient set; bit masks."""

    effective: int
    permitted: int
    inheritable: int
    ambient: int


class SetNoNewPrivileges(Op, frozen=True, kw_only=True):
    """PR_SET_NO_NEW_PRIVS."""


class LoadSeccomp(Op, frozen=True, kw_only=True):
    """Install a filter: an array of struct sock_filter; `flags` are SECCOMP_FILTER_FLAG_*."""

    program: bytes
    flags: int = 0


class ChangeDirectory(Op, frozen=True, kw_only=True):
    """chdir inside the container, and see that it is really beneath its root (CVE-2024-21626)."""

    path: str


class SetUmask(Op, frozen=True, kw_only=True):
    """umask(2)."""

    mask: int


class OpenTerminal(Op, frozen=True, kw_only=True):
    """Open a pty pair in this devpts mount and set its size and owner."""

    master: Slot
    peer: Slot
    devpts: Slot
    rows: int = 0
    columns: int = 0
    uid: int = 0


class SetStdio(Op, frozen=True, kw_only=True):
    """Put three descriptors at 0, 1 and 2; `terminal` also makes the session leader own it."""

    stdin: Slot
    stdout: Slot
    stderr: Slot
    terminal: bool = False


class NewSession(Op, frozen=True, kw_only=True):
    """setsid(2)."""


class SealDescriptors(Op, frozen=True, kw_only=True):
    """close_range: nothing from 3 on survives the exec (CVE-2024-21626)."""


class ForkInit(Op, frozen=True, kw_only=True):
    """Stay behind as a small init that forwards signals and reaps; the rest of the plan runs in its child."""


class Exec(Op, frozen=True, kw_only=True):
    """execve the first of `candidates` that is there (what a search of PATH would try)."""

    candidates: tuple[str, ...]
    argv: tuple[str, ...]
    env: tuple[str, ...]


# -- kernel tables ---------------------------------------------------------------------------------


class Netlink(Op, frozen=True, kw_only=True):
    """Send prepared netlink messages and read their acknowledgements; `text` says what they ask for.

    With `keep` the socket stays open in that slot: to close one waits until what its transaction took out of
    nf_tables is really gone (11 ms).
    """

    family: int
    messages: Data
    count: int
    text: str = ""
    keep: Slot | None = None


class Bind(Op, frozen=True, kw_only=True):
    """Hold a port of the host, so that nobody else takes it: bound, without SO_REUSEADDR afterwards, and deaf.

    Nothing listens: what the packet filter does not turn away is refused at once, not left to wait.
    `address` is numeric, and of IPv6 means IPv6 only.
    """

    slot: Slot
    datagram: bool
    address: str
    port: int


class FilterDevices(Op, frozen=True, kw_only=True):
    """Load a BPF_PROG_TYPE_CGROUP_DEVICE program and attach it to a v2 cgroup."""

    cgroup: Slot
    program: bytes


class KillMembers(Op, frozen=True, kw_only=True):
    """SIGKILL all that a `cgroup.procs` file names, and those of the directories beneath, until nobody is left."""

    path: str
    at: Slot | None = None


# -- supervision -----------------------------------------------------------------------------------


class Supervise(Op, frozen=True, kw_only=True):
    """Carry stdio, write the log and wait for the end of `child` (a pidfd).

    With `terminal` the pty master serves as stdin and output, else the three pipe ends.
    `log` is a directory slot: json-file records go to `log_name` there, at most
    `log_size_bytes` a file and `log_files` files. `listener` takes attach clients,
    `client` is one that is connected already. `stdin_once` closes stdin when
    the first client that gave input goes. `lost` is the log text that tells how many
    records a full disk cost.
    """

    child: Slot
    stdin: Slot | None = None
    stdout: Slot | None = None
    stderr: Slot | None = None
    terminal: Slot | None = None
    listener: Slot | None = None
    client: Slot | None = None
    log: Slot | None = None
    log_name: str = ""
    log_size_bytes: int = 0
    log_files: int = 0
    lost: str = ""
    stdin_once: bool = False


class Keep(Op, frozen=True, kw_only=True):
    """Copy the first 4 KiB of a small file into the exit record, under a name."""

    name: str
    path: str
    at: Slot | None = None


class RecordExit(Op, frozen=True, kw_only=True):
    """Write how the child ended beneath `at`, staged and renamed; then tell the attached clients."""

    at: Slot
    path: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that happens to one process, in order."""

    before: tuple[Op, ...]
    child: tuple[Op, ...]
    beside: tuple[Op, ...]
    after: tuple[Op, ...]

    def sections(self) -> tuple[tuple[str, tuple[Op, ...]], ...]:
        """Give the four sections with their names."""
        return (("before", self.before), ("child", self.child), ("beside", self.beside), ("after", self.after))

    def ops(self) -> tuple[Op, ...]:
        """Give all ops in the order of their numbers in error reports."""
        return self.before + self.child + self.beside + self.after
