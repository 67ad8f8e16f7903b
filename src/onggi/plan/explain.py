"""Plans as text for people: one line per op, and one sentence per failure.

`explain_plan` is what `--explain` and `onggi plan` print and what reviewers read in
recorded plans: a changed line is a changed effect. `explain_failure` turns the
launcher's (op number, errno) into what happened, where, and what to do.
"""

import errno as errno_names
from typing import Final

from onggi.plan import abi, ops
from onggi.plan.facts import Facts
from onggi.plan.mounts import ROOT

_NAMESPACES: Final = (
    (abi.CLONE_NEWUSER, "user"),
    (abi.CLONE_NEWNS, "mount"),
    (abi.CLONE_NEWPID, "pid"),
    (abi.CLONE_NEWNET, "network"),
    (abi.CLONE_NEWIPC, "ipc"),
    (abi.CLONE_NEWUTS, "uts"),
    (abi.CLONE_NEWCGROUP, "cgroup"),
    (abi.CLONE_NEWTIME, "time"),
)
_ATTRIBUTES: Final = (
    (abi.MOUNT_ATTR_RDONLY, "ro"),
    (abi.MOUNT_ATTR_NOSUID, "nosuid"),
    (abi.MOUNT_ATTR_NODEV, "nodev"),
    (abi.MOUNT_ATTR_NOEXEC, "noexec"),
    (abi.MOUNT_ATTR_NOATIME, "noatime"),
    (abi.MOUNT_ATTR_STRICTATIME, "strictatime"),
    (abi.MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (abi.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
)
_PROPAGATION: Final = {
    abi.MS_PRIVATE: "private",
    abi.MS_SLAVE: "slave",
    abi.MS_SHARED: "shared",
    abi.MS_UNBINDABLE: "unbindable",
}
_OPEN: Final = (
    (abi.OPEN_READ, "read"),
    (abi.OPEN_WRITE, "write"),
    (abi.OPEN_CREATE, "create"),
    (abi.OPEN_PATH, "path"),
    (abi.OPEN_DIRECTORY, "directory"),
    (abi.OPEN_NOFOLLOW, "nofollow"),
    (abi.OPEN_MAGIC, "magic"),
)
_MAX_TEXT: Final = 160
# strerror(3) as a table: a plan is explained the same wherever it is read.
_TEXTS: Final = {
    errno_names.EPERM: "operation not permitted",
    errno_names.ENOENT: "no such file or directory",
    errno_names.ESRCH: "no such process",
    errno_names.EINTR: "interrupted system call",
    errno_names.EIO: "input/output error",
    errno_names.ENXIO: "no such device or address",
    errno_names.E2BIG: "argument list too long",
    errno_names.ENOEXEC: "exec format error",
    errno_names.EBADF: "bad file descriptor",
    errno_names.ECHILD: "no child processes",
    errno_names.EAGAIN: "resource temporarily unavailable",
    errno_names.ENOMEM: "cannot allocate memory",
    errno_names.EACCES: "permission denied",
    errno_names.EFAULT: "bad address",
    errno_names.EBUSY: "device or resource busy",
    errno_names.EEXIST: "file exists",
    errno_names.EXDEV: "invalid cross-device link",
    errno_names.ENODEV: "no such device",
    errno_names.ENOTDIR: "not a directory",
    errno_names.EISDIR: "is a directory",
    errno_names.EINVAL: "invalid argument",
    errno_names.ENFILE: "too many open files in system",
    errno_names.EMFILE: "too many open files",
    errno_names.ETXTBSY: "text file busy",
    errno_names.EFBIG: "file too large",
    errno_names.ENOSPC: "no space left on device",
    errno_names.EROFS: "read-only file system",
    errno_names.EMLINK: "too many links",
    errno_names.EPIPE: "broken pipe",
    errno_names.ERANGE: "numerical result out of range",
    errno_names.ENAMETOOLONG: "file name too long",
    errno_names.ENOSYS: "function not implemented",
    errno_names.ENOTEMPTY: "directory not empty",
    errno_names.ELOOP: "too many levels of symbolic links",
    errno_names.EPROTO: "protocol error",
    errno_names.EOVERFLOW: "value too large for defined data type",
    errno_names.EUSERS: "too many users",
    errno_names.EOPNOTSUPP: "operation not supported",
    errno_names.EPROTONOSUPPORT: "protocol not supported",
    errno_names.EADDRINUSE: "address already in use",
    errno_names.EADDRNOTAVAIL: "cannot assign requested address",
    errno_names.ENETUNREACH: "network is unreachable",
    errno_names.ETIMEDOUT: "connection timed out",
    errno_names.ENOTTY: "inappropriate ioctl for device",
    errno_names.ESTALE: "stale file handle",
    errno_names.EDQUOT: "disk quota exceeded",
    errno_names.ECANCELED: "operation canceled",
}


def explain_plan(plan: ops.Plan) -> str:
    """Give the whole plan as text, numbered as in error messages."""
    lines: list[str] = []
    number = 0
    for name, section in plan.sections():
        lines.append(f"{name}:")
        for op in section:
            lines.append(f"{number:4}  {describe(op)}")
            number += 1
    return "\n".join(lines) + "\n"


def describe(op: ops.Op) -> str:
    """Give one line for one op."""
    text = _one_line(_describe(op))
    if op.tolerate:
        text += f"  (or {', '.join(errno_names.errorcode.get(number, str(number)) for number in op.tolerate)})"
    return text


def explain_failure(plan: ops.Plan, number: int, errno: int, facts: Facts | None = None) -> str:
    """Say in one sentence what failed: the step, the kernel's word, the likely cause and what to do."""
    every = plan.ops()
    if number >= len(every):
        return f"the launcher could not read the plan: {strerror(errno)}"
    op = every[number]
    hint = _hint(op, errno, facts)
    step = f"{_describe(op)}: {strerror(errno)} (op {number} of {len(every)})"
    return _one_line(f"{step}; {hint}" if hint else step)


def _one_line(text: str) -> str:
    """Escape what would move the cursor, colour the terminal or begin a new line: names are anybody's."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, by surrogateescape
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def strerror(errno: int) -> str:
    """Give the kernel's words for an errno, in lower case as other tools print them."""
    return _TEXTS.get(errno) or f"error {errno_names.errorcode.get(errno, str(errno))}"


def _bits(value: int, names: tuple[tuple[int, str], ...]) -> str:
    known = [name for bit, name in names if value & bit]
    return ",".join(known) or "none"


def _at(path: str, at: ops.Slot | None) -> str:
    return path if at is None else f"%{at}" if path == "" else f"%{at}/{path.lstrip('/')}"


def _beneath(root: ops.Slot, path: str) -> str:
    """Show a path of the container, or what is reached through the descriptor of another mount."""
    return path if root == ROOT else f"{path} in %{root}"


def _data(data: ops.Data) -> str:
    parts = data if isinstance(data, tuple) else (data,)
    text = ""
    for part in parts:
        match part:
            case bytes():
                plain = part.decode("utf-8", "replace") if _printable(part) else f"<{len(part)} bytes>"
                text += plain
            case ops.SlotHole():
                text += f"<%{part.slot}>"
            case ops.LinkHole():
                text += f"<index of eth{part.number}>"
            case _:
                text += f"<{part.value.partition(':')[0]}>"
    text = text.rstrip("\n").replace("\n", "; ")
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _printable(data: bytes) -> bool:
    return all(byte >= 32 or byte in (9, 10) for byte in data)


def _capabilities(mask: int) -> str:
    names = [name.removeprefix("CAP_").lower() for number, name in enumerate(abi.CAPABILITIES) if mask >> number & 1]
    if len(names) >= len(abi.CAPABILITIES) - 1:
        return "all"
    return ",".join(names) or "none"


def _option(key: str, value: ops.OptionValue) -> str:
    match value:
        case None:
            return key
        case ops.SlotHole():
            return f"{key}=%{value.slot}"
        case tuple():
            return f"{key}={_data(value)}"
    return f"{key}={value}"


def _describe_open(op: ops.Open) -> str:
    match op.origin:
        case ops.NewFs() as fs:
            options = ",".join(_option(key, value) for key, value in fs.options)
            text = f"open {op.slot} = new {fs.type}" + (f" [{options}]" if options else "")
            text += f" as {fs.owner[0]}:{fs.owner[1]}" if fs.owner != (0, 0) else ""
        case ops.Tree() as tree:
            text = f"open {op.slot} = {'tree' if tree.recursive else 'mount'} of {_at(tree.path, tree.at)}"
    for label, set_, clear in (("", op.set, op.clear), ("recursively ", op.recursive_set, op.recursive_clear)):
        text += f", {label}{_bits(set_, _ATTRIBUTES)}" if set_ else ""
        cleared = clear & ~abi.MOUNT_ATTR__ATIME
        text += f", {label}not {_bits(cleared, _ATTRIBUTES)}" if cleared else ""
    if op.propagation:
        text += f", {'recursively ' if op.recursive_propagation else ''}{_PROPAGATION[op.propagation]}"
    return text + (f", ids by %{op.idmap}" if op.idmap else "")


def _describe_supervise(op: ops.Supervise) -> str:
    stdio = f"terminal %{op.terminal}" if op.terminal else "pipes"
    log = f", log {op.log_name} {op.log_files} x {op.log_size_bytes} bytes" if op.log else ", no log"
    return f"supervise %{op.child} over {stdio}{log}" + (", attachable" if op.listener else "")


def _describe(op: ops.Op) -> str:
    match op:
        case ops.Inherit():
            return f"take {op.slot} from the caller (descriptor {op.position})"
        case ops.OpenPath():
            return f"open {op.slot} = {_at(op.path, op.at)} ({_bits(op.flags, _OPEN)})"
        case ops.Close():
            return f"close %{op.slot}"
        case ops.Lock():
            return f"lock %{op.slot}"
        case ops.Listen():
            return f"listen {op.slot} at {_at(op.path, op.at)}"
        case ops.Pipe():
            return f"pipe {op.writer} -> {op.reader}" + (f" of uid {op.uid}" if op.uid else "")
        case ops.MakeDirectory():
            return f"mkdir {_at(op.path, op.at)} mode {op.mode:o}"
        case ops.WriteFile():
            return f"write {_at(op.path, op.at)}: {_data(op.data)}{', if it is empty' if op.if_empty else ''}"
        case ops.PutFile():
            return f"put {_at(op.path, op.at)}: {_data(op.data)}"
        case ops.Remove():
            kind = "tree " if op.tree else "directory " if op.directory else ""
            return f"remove {kind}{_at(op.path, op.at)}"
        case ops.Open():
            return _describe_open(op)
        case ops.Attach():
            return f"mount %{op.slot} on {_beneath(op.root, op.target)}"
        case ops.AttachRoot():
            return f"mount %{op.slot} over /"
        case ops.MakeTarget():
            kind = f"like %{op.like}" if op.like else "directory" if op.directory else "file"
            return f"make {_beneath(op.root, op.path)} ({kind}) if it is missing"
        case ops.MakeNode():
            kind = {abi.S_IFCHR: "c", abi.S_IFBLK: "b"}.get(op.mode & 0o170000, "p")
            numbers = f"{_major(op.device)}:{_minor(op.device)}"
            owner = f" owner {op.uid}:{op.gid}" if op.uid or op.gid else ""
            return f"mknod {_beneath(op.root, op.path)} {kind} {numbers} mode {op.mode & 0o7777:o}{owner}"
        case ops.MakeLink():
            return f"symlink {_beneath(op.root, op.path)} -> {op.text}"
        case ops.Mask():
            return f"mask {_beneath(op.root, op.path)}"
        case ops.MakeReadOnly():
            return f"make {_beneath(op.root, op.path)} read-only"
        case ops.Restrict():
            change = _bits(op.set, _ATTRIBUTES) if op.set else _PROPAGATION.get(op.propagation, "nothing")
            return f"set {change} on %{op.slot}{' recursively' if op.recursive else ''}"
        case ops.Propagate():
            return f"set {_PROPAGATION[op.propagation]} on /{' recursively' if op.recursive else ''}"
        case ops.PivotRoot():
            return f"pivot root to %{op.root}"
        case ops.Clone():
            where = f" in cgroup %{op.cgroup}" if op.cgroup else ""
            return f"clone with new namespaces: {_bits(op.namespaces, _NAMESPACES)}{where}"
        case ops.EnterCgroup():
            return f"go on in a new process in cgroup %{op.cgroup}"
        case ops.Reclone():
            return f"clone once more with new namespaces: {_bits(op.namespaces, _NAMESPACES)}"
        case ops.Adopt():
            return f"take over the second clone as {op.pidfd}"
        case ops.SetNamespace():
            return f"join {_bits(op.types, _NAMESPACES)} namespace of %{op.slot}"
        case ops.Unshare():
            return f"unshare namespaces: {_bits(op.types, _NAMESPACES)}"
        case ops.Tell():
            return f"tell {op.name}"
        case ops.Await():
            return f"await {op.name}"
        case ops.Send():
            return f"send %{op.slot}"
        case ops.Receive():
            return f"receive {op.slot}"
        case ops.SetHostname():
            return f"set hostname {op.name}"
        case ops.SetDomainname():
            return f"set domainname {op.name}"
        case ops.SetResourceLimit():
            name = next((name for name, number in abi.RLIMITS.items() if number == op.resource), str(op.resource))
            return f"set limit {name} {_limit(op.soft)}:{_limit(op.hard)}"
        case ops.SetDeathSignal():
            return f"die by signal {op.signal} with the launcher"
        case ops.SetUndumpable():
            return "become undumpable"
        case ops.DropBounding():
            return f"keep bounding capabilities: {_capabilities(op.keep)}"
        case ops.SetIds():
            groups = "unchanged" if op.groups is None else ",".join(map(str, op.groups)) or "none"
            return f"become uid {op.uid} gid {op.gid} groups {groups}"
        case ops.SetCapabilities():
            text = f"set capabilities: {_capabilities(op.permitted)}"
            text += f", effective {_capabilities(op.effective)}" if op.effective != op.permitted else ""
            text += f", inheritable {_capabilities(op.inheritable)}" if op.inheritable else ""
            return text + (f", ambient {_capabilities(op.ambient)}" if op.ambient else "")
        case ops.SetNoNewPrivileges():
            return "set no_new_privs"
        case ops.LoadSeccomp():
            return f"load seccomp filter of {len(op.program) // 8} instructions"
        case ops.ChangeDirectory():
            return f"chdir {op.path}"
        case ops.SetUmask():
            return f"umask {op.mask:04o}"
        case ops.OpenTerminal():
            size = f" {op.rows}x{op.columns}" if op.rows or op.columns else ""
            return f"open terminal {op.master}, {op.peer} in %{op.devpts}{size}"
        case ops.SetStdio():
            return f"stdio %{op.stdin} %{op.stdout} %{op.stderr}{' as controlling terminal' if op.terminal else ''}"
        case ops.NewSession():
            return "new session"
        case ops.SealDescriptors():
            return "close every descriptor from 3 on at exec"
        case ops.ForkInit():
            return "fork; stay as init"
        case ops.Exec():
            command = " ".join(_quote(word) for word in op.argv)
            return f"exec {command if len(command) <= _MAX_TEXT else command[:_MAX_TEXT] + '…'}"
        case ops.Netlink():
            return f"netlink: {op.text}" if op.text else f"netlink family {op.family}: {op.count} messages"
        case ops.Bind():
            address = f"[{op.address}]" if ":" in op.address else op.address
            port = f"{address}:{op.port or '<any free one>'}"
            return f"hold port {port}/{'udp' if op.datagram else 'tcp'}"
        case ops.FilterDevices():
            return f"filter devices of %{op.cgroup} by {len(op.program) // 8} eBPF instructions"
        case ops.KillMembers():
            return f"kill what {_at(op.path, op.at)} names"
        case ops.Supervise():
            return _describe_supervise(op)
        case ops.Keep():
            return f"keep {_at(op.path, op.at)} as {op.name}"
        case ops.RecordExit():
            return f"record the exit in {_at(op.path, op.at)}"
    raise TypeError(f"no description for {type(op).__name__}")


def _quote(word: str) -> str:
    plain = word and all(char.isalnum() or char in "@%+=:,./-_" for char in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"


def _limit(value: int) -> str:
    return "unlimited" if value == 2**64 - 1 else str(value)


def _major(device: int) -> int:
    return device >> 8 & 0xFFF | device >> 32 & ~0xFFF


def _minor(device: int) -> int:
    return device & 0xFF | device >> 12 & ~0xFF


_EPERM: Final = errno_names.EPERM
_EACCES: Final = errno_names.EACCES
_ENOENT: Final = errno_names.ENOENT


def _hint(op: ops.Op, errno: int, facts: Facts | None) -> str:
    """Give the likely cause and what to do, where there is one worth saying."""
    match op:
        case ops.Open(origin=ops.NewFs(type="proc")) if errno in (_EPERM, _EACCES):
            hidden = f" ({', '.join(facts.proc_hidden)})" if facts and facts.proc_hidden else ""
            return (
                f"this host hides parts of /proc{hidden}, so a new one is refused in a user namespace; "
                "run without a user namespace, or start Onggi where /proc is whole"
            )
        case ops.Open(origin=ops.NewFs(type="sysfs")) if errno == _EPERM:
            return (
                "a new /sys is given only to the owner of the network namespace, and that is another user namespace; "
                "join the user namespace that made the network namespace, or bind /sys"
            )
        case ops.Open(origin=ops.NewFs(type="overlay")) if errno == _EPERM:
            return "that needs CAP_SYS_ADMIN: run Onggi as root on the host, or in a container that is --privileged"
        case ops.Open(origin=ops.NewFs(type="overlay")) if errno == errno_names.ENODEV:
            return "this kernel has overlayfs as a module, if at all: modprobe overlay"
        case ops.Open(origin=ops.NewFs(type="overlay")):
            return (
                "the layers or the upper directory lie on a file system that overlayfs refuses; "
                "move the state root (--root) to ext4, xfs or btrfs"
            )
        case ops.Open(origin=ops.NewFs(type=name)) if errno == errno_names.ENODEV:
            return f"this kernel has no file system {name}"
        case ops.Open(origin=ops.NewFs(type="devpts")) if errno == errno_names.EINVAL:
            return "the user namespace has no group 5 (tty), to which terminals belong; map it"
        case ops.Open(origin=ops.NewFs()) if errno == errno_names.EINVAL:
            return "the file system does not know one of the options"
        case ops.Open(origin=ops.Tree(at=None)) if errno == _ENOENT:
            return "the source of a bind mount must exist on the host; make it first, or check the path"
        case ops.Open(idmap=str()) if errno == errno_names.EINVAL:
            return "this file system cannot be mounted with mapped ids"
        case ops.MakeTarget() if errno == errno_names.ENOTDIR:
            return "a part of the path is a file in the image"
        case ops.Attach() if errno == errno_names.EINVAL:
            return "a directory cannot be mounted on a file, nor a file on a directory"
        case ops.MakeTarget() if errno == errno_names.EROFS:
            return "the mount point is not in the image and the root file system is read-only; add it to the image"
        case ops.MakeTarget() | ops.Attach() | ops.Mask() | ops.MakeReadOnly() if errno == errno_names.ELOOP:
            return "a symbolic link of the image goes in circles or into procfs"
        case ops.Clone() | ops.Reclone() if errno == errno_names.ENOSPC:
            return "the limit of user namespaces is reached: see /proc/sys/user/max_*_namespaces"
        case ops.Clone() | ops.Reclone() if errno in (_EPERM, _EACCES):
            return "making namespaces needs root (CAP_SYS_ADMIN) here"
        case ops.Clone() | ops.Reclone() | ops.ForkInit() | ops.EnterCgroup() if errno == errno_names.EAGAIN:
            return "the limit of processes is reached: see ulimit -u, or pids.max of this cgroup"
        case ops.Clone() | ops.EnterCgroup() if errno == errno_names.EBUSY:
            return "a cgroup with controllers enabled for its children takes no process itself"
        case ops.OpenPath(at="child", path=path) if path.startswith("ns/") and errno == _EACCES:
            return "looking at the namespaces of a process that has joined others needs CAP_SYS_PTRACE"
        case ops.WriteFile() | ops.OpenPath(at="child") if errno in (errno_names.ESRCH, _ENOENT) and _of_child(op):
            return "the new process ended before it was placed; was it killed for want of memory?"
        case ops.SetNamespace() if errno == errno_names.EINVAL:
            return "the path is not a namespace of this type"
        case ops.WriteFile(path=path) if path.startswith("sys/"):
            return f"the kernel refuses this value of the sysctl {path.removeprefix('sys/').replace('/', '.')}"
        case ops.WriteFile(path="uid_map" | "gid_map"):
            return "the host ids of the mapping must be ones that the caller may use, and ranges must not overlap"
        case ops.WriteFile(path=path) if "cgroup" in path and errno == errno_names.EINVAL:
            return "the kernel refuses this limit; it may be out of range or above the parent cgroup's"
        case ops.WriteFile(path=path) if path.endswith("/cgroup.subtree_control") and errno == errno_names.EBUSY:
            return (
                "a cgroup with processes of its own cannot hand controllers down to one for the container; "
                "choose another --cgroup-parent"
            )
        case ops.WriteFile(path=path) if "cgroup" in path and errno == errno_names.EBUSY:
            return "the cgroup already uses more than the new limit"
        case ops.MakeDirectory(path=path) if "cgroup" in path and errno in (errno_names.EROFS, _EACCES, _EPERM):
            return "the cgroup tree is not writable here; inside another container give Onggi a writable /sys/fs/cgroup"
        case ops.MakeDirectory() | ops.PutFile() if errno in (errno_names.ENOSPC, errno_names.EDQUOT):
            return "the disk is full; make room (onggi system df, onggi system prune)"
        case ops.Lock():
            return "another supervisor holds this container"
        case ops.MakeNode() if errno == _EPERM:
            return "device nodes cannot be made here; use a user namespace, which binds the host's instead"
        case ops.SetResourceLimit() if errno == _EPERM:
            return "raising a hard limit needs CAP_SYS_RESOURCE; ask for at most the current one"
        case ops.SetIds() if errno == errno_names.EINVAL:
            return "the user or group is not mapped into the container's user namespace"
        case ops.DropBounding() | ops.SetCapabilities() if errno == _EPERM:
            return "Onggi's own process does not hold these capabilities"
        case ops.LoadSeccomp() if errno == errno_names.EINVAL:
            return "this kernel does not take the filter or one of its flags"
        case ops.ChangeDirectory(path=path) if errno == _ENOENT:
            return f"the working directory {path} is not in the container"
        case ops.ChangeDirectory() if errno == errno_names.EXDEV:
            return "the working directory lies outside the container's root, which is never allowed"
        case ops.ChangeDirectory() if errno == _EACCES:
            return "the container's user may not enter the working directory"
        case ops.Bind(port=port) if errno == errno_names.EADDRINUSE:
            return (
                f"port is already allocated: another program of this host has it (ss -tulnp 'sport = :{port}' tells "
                "which); end that one, or publish another port"
            )
        case ops.Bind(address=address) if errno == errno_names.EADDRNOTAVAIL:
            return f"this host has no address {address}; `ip address` lists those that it has"
        case ops.Bind() if errno == errno_names.EMFILE:
            return "every published port takes a descriptor or two: raise the limit (ulimit -n), or publish fewer"
        case ops.Netlink() if errno in (_EPERM, _EACCES):
            return "changing the network needs root (CAP_NET_ADMIN) here"
        case ops.Netlink() if errno == errno_names.EOPNOTSUPP:
            return "this kernel lacks a part that it needs: veth, bridge or nf_tables"
        case ops.FilterDevices():
            return "device rules on cgroup v2 need CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"
        case ops.OpenTerminal() if errno == errno_names.ENOTTY:
            return "what the container has at /dev/pts is no devpts"
        case ops.Exec() if errno == _ENOENT:
            return "no such file in the container, or the interpreter that it names is missing"
        case ops.Exec() if errno == _EACCES:
            return "the file is not executable by the container's user, or is a directory"
        case ops.Exec() if errno == errno_names.ENOEXEC:
            return "the file is no program for this machine: a script needs a #! line, a binary the right architecture"
        case ops.Supervise() if errno == errno_names.ECANCELED:
            return "the new process was killed before it came to its program; was that for want of memory?"
        case ops.Await() | ops.Receive() | ops.Tell() | ops.Send() | ops.Adopt() if errno == errno_names.ECANCELED:
            return "the other process ended before it came to this step; was it killed for want of memory?"
    return ""


def _of_child(op: ops.Op) -> bool:
    """Tell whether a step is about the new process and so needs it to be there."""
    match op:
        case ops.WriteFile(at="child") | ops.OpenPath(at="child"):
            return True
        case ops.WriteFile(data=tuple() as data):
            return ops.Hole.PID in data
    return False
