"""Orders and bounds that safety needs, over plausible specs on cgroup v1, hybrid and v2 hosts."""

from typing import Final, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from launcher.build import SOURCES
from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi, ops, slots
from onggi.plan.container import Supervision, plan_container
from onggi.plan.exec import Target, plan_session
from onggi.plan.explain import describe, explain_plan
from onggi.plan.ops import (
    Adopt,
    Attach,
    AttachRoot,
    Await,
    ChangeDirectory,
    Clone,
    Close,
    DropBounding,
    EnterCgroup,
    Exec,
    ForkInit,
    Keep,
    KillMembers,
    LoadSeccomp,
    Lock,
    MakeDirectory,
    NewFs,
    NewSession,
    Op,
    Open,
    OpenPath,
    PivotRoot,
    Plan,
    Receive,
    Reclone,
    RecordExit,
    Remove,
    SealDescriptors,
    Send,
    SetCapabilities,
    SetDeathSignal,
    SetIds,
    SetNamespace,
    SetNoNewPrivileges,
    SetResourceLimit,
    SetStdio,
    SetUmask,
    SetUndumpable,
    Slot,
    SlotHole,
    Supervise,
    Tell,
    Tree,
    Unshare,
    WriteFile,
)
from onggi.plan.rootfs import Directory
from onggi.plan.wire import KINDS, encode_plan, render_header
from onggi.spec.runtime import Spec
from tests.plans import FACTS, Case, decode_plan, plannable_specs, request_mounts, roots, strings, supervisions
from tests.strategies import processes, runtime_specs, seccomps

LADDER: Final = (PivotRoot, DropBounding, SetIds, SetCapabilities, Exec)
INSIDE: Final = SetIds(uid=0, gid=0, groups=None)
"""How a process becomes root of a user namespace: it gains nothing outside."""

AFTER_PIVOT: Final = {
    *(Await, SetResourceLimit, SetStdio, LoadSeccomp, DropBounding, SetIds, SetDeathSignal, ChangeDirectory),
    *(SetUmask, SetCapabilities, SetNoNewPrivileges, SealDescriptors, ForkInit, Exec),
}
FEW: Final = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Planned containers; what a host refuses is no case."""
    facts = FACTS[draw(st.sampled_from(sorted(FACTS)))]
    spec, root, supervision = draw(plannable_specs()), draw(roots()), draw(supervisions())
    try:
        plan = plan_container(spec, root, supervision, facts, bundle="/bundle")
    except InvalidArgument as refusal:
        if "seccomp" not in str(refusal):
            raise
        assume(False)  # rules that contradict each other
        raise
    return Case(spec=spec, root=root, supervision=supervision, facts=facts, plan=plan)


@st.composite
def sessions(draw: st.DrawFn) -> Plan:
    """Planned exec sessions."""
    facts = FACTS[draw(st.sampled_from(sorted(FACTS)))]
    kinds = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
    target = Target(
        pid=4242,
        namespaces=tuple(draw(st.lists(st.sampled_from(kinds), unique=True))),
        cgroups={"unified": "/sys/fs/cgroup/onggi/c1"} if draw(st.booleans()) else {},
    )
    process, seccomp = draw(processes()), draw(st.none() | seccomps())
    try:
        return plan_session(process, target, draw(supervisions()), facts, seccomp=seccomp)
    except (InvalidArgument, NotSupported):
        assume(False)
        raise


def plans() -> st.SearchStrategy[Plan]:
    """Plans of every kind."""
    return cases().map(lambda case: case.plan) | sessions()


def kinds_of(section: tuple[Op, ...]) -> list[type[Op]]:
    return [type(op) for op in section]


def ending(plan: Plan) -> tuple[Op, ...]:
    """The child from where it has left the host: its root is the container's, or was joined."""
    kinds = kinds_of(plan.child)
    if PivotRoot in kinds:
        return plan.child[kinds.index(PivotRoot) :]
    return plan.child[max((n for n, kind in enumerate(kinds) if kind is Await), default=0) :]


# -- privileges ------------------------------------------------------------------------------------


@FEW
@given(plans())
def test_privilege_is_only_given_up(plan: Plan) -> None:
    steps = kinds_of(ending(plan))
    ladder = [step for step in LADDER if step is not PivotRoot or step in steps]
    assert [step for step in steps if step in LADDER] == ladder
    assert steps[-1] is Exec
    before = plan.child[: len(plan.child) - len(steps)]
    assert [op for op in before if type(op) in LADDER] in ([], [INSIDE])


@FEW
@given(cases())
def test_root_of_a_user_namespace_is_taken_only_inside_one(case: Case) -> None:
    child = case.plan.child
    for number, op in enumerate(child):
        if op == INSIDE and number < len(child) - len(ending(case.plan)):
            assert child[number - 1] in (Await(name="mapped"), SetNamespace(slot="ns-user", types=abi.CLONE_NEWUSER))


@FEW
@given(cases())
def test_capabilities_are_what_was_asked_for_at_most(case: Case) -> None:
    (sets,) = (op for op in case.plan.child if isinstance(op, SetCapabilities))
    (bounding,) = (op for op in case.plan.child if isinstance(op, DropBounding))
    process = case.spec.process
    assert process is not None
    asked = process.capabilities

    def bits(names: tuple[str, ...] | None) -> int:
        return sum(1 << abi.CAPABILITIES.index(name) for name in names or ())

    assert bounding.keep == (bits(asked.bounding) if asked else 0)
    assert sets.permitted == (bits(asked.permitted) if asked else 0)
    assert sets.effective & ~sets.permitted == 0
    assert sets.ambient & ~(sets.permitted & sets.inheritable) == 0
    assert sets.permitted & ~case.facts.capabilities == 0


@FEW
@given(plans())
def test_seccomp_is_loaded_while_that_is_allowed_and_as_late_as_can_be(plan: Plan) -> None:
    kinds = kinds_of(plan.child)
    if LoadSeccomp not in kinds:
        return
    assert kinds.count(LoadSeccomp) == 1
    at = kinds.index(LoadSeccomp)
    if SetNoNewPrivileges in kinds:
        assert kinds.index(SetCapabilities) < kinds.index(SetNoNewPrivileges) < at
    else:
        assert at < kinds.index(DropBounding)


@FEW
@given(plans())
def test_the_death_signal_comes_after_the_last_change_of_ids(plan: Plan) -> None:
    kinds = kinds_of(plan.child)
    assert kinds.count(SetDeathSignal) == 1
    last = max(number for number, kind in enumerate(kinds) if kind in (SetIds, Reclone))
    assert last < kinds.index(SetDeathSignal) < kinds.index(Exec)


@FEW
@given(plans())
def test_no_process_of_a_joined_namespace_can_trace_the_child(plan: Plan) -> None:
    joins = [op for op in (*plan.before, *plan.child) if isinstance(op, SetNamespace)]
    if joins:
        assert plan.child[:2] == (Close(slot="lock"), SetUndumpable())


# -- what is reached -------------------------------------------------------------------------------


@FEW
@given(plans())
def test_nothing_is_reached_once_the_root_is_the_containers(plan: Plan) -> None:
    kinds = kinds_of(ending(plan))
    assert set(kinds) <= AFTER_PIVOT | {PivotRoot, Unshare}
    assert Unshare not in kinds or PivotRoot not in kinds


@FEW
@given(cases())
def test_the_child_names_no_path_of_the_host_but_those_of_its_cgroup(case: Case) -> None:
    joined = "mount" in case.joined
    for op in case.plan.child:
        match op:
            case OpenPath(path="/dev/pts", at=None) if joined:
                pass
            case WriteFile(path=path, data=b"0") if path.endswith("/onggi/c1/tasks"):
                pass
            case OpenPath() | WriteFile() | ops.PutFile() | MakeDirectory() | Remove() | KillMembers() | Keep():
                assert op.at is not None, op
            case Open(origin=Tree() as tree):
                assert tree.at is not None, op


@FEW
@given(cases())
def test_bind_sources_are_opened_in_the_callers_mount_namespace(case: Case) -> None:
    opened = {op.origin.path for op in case.plan.before if isinstance(op, Open) and isinstance(op.origin, Tree)}
    assert {m.source for m in request_mounts(case.spec)} <= opened
    assert not [op for op in case.plan.before if isinstance(op, SetNamespace) and op.types & abi.CLONE_NEWNS]


@FEW
@given(cases())
def test_no_mount_of_the_host_hears_of_the_containers_unless_asked(case: Case) -> None:
    """A clone of a shared mount passes on what is mounted below it, until its propagation is changed."""
    attached = {op.slot for op in case.plan.child if isinstance(op, Attach | AttachRoot)}
    attached |= {slot for op in case.plan.child if isinstance(op, ops.Mask) for slot in (op.null, op.empty)}
    shared = {m.source for m in request_mounts(case.spec) if {"shared", "rshared"} & set(m.options or ())}
    for op in (*case.plan.before, *case.plan.beside):
        if isinstance(op, Open) and isinstance(op.origin, Tree) and op.slot in attached:
            assert op.propagation in (abi.MS_PRIVATE, abi.MS_SLAVE) or op.origin.path in shared, op
            whole = op.origin.recursive and op.origin.path in ("/sys", "/bundle/rootfs")
            assert op.recursive_propagation or not whole


@FEW
@given(plans())
def test_every_namespace_is_opened_before_one_is_joined(plan: Plan) -> None:
    joined = {op.slot for op in (*plan.before, *plan.child, *plan.beside) if isinstance(op, SetNamespace)}
    opened: set[Slot] = set()
    for op in plan.before:
        if isinstance(op, OpenPath):
            opened.add(op.slot)
        if isinstance(op, SetNamespace):
            assert joined <= opened
    assert joined <= opened


@FEW
@given(cases())
def test_namespaces_that_are_made_belong_to_the_containers_user_namespace(case: Case) -> None:
    (clone,) = (op for op in case.plan.before if isinstance(op, Clone))
    reclones = [op for op in case.plan.child if isinstance(op, Reclone)]
    made = case.made - {"time"}
    if case.facts.cgroup.layout != "v2":
        made -= {"cgroup"}
        unshared = [op for op in case.plan.child if op == Unshare(types=abi.CLONE_NEWCGROUP)]
        assert len(unshared) == ("cgroup" in case.made)
    from_plan = reclones[0].namespaces if reclones else clone.namespaces
    files = {
        "mount": abi.CLONE_NEWNS,
        "pid": abi.CLONE_NEWPID,
        "network": abi.CLONE_NEWNET,
        "ipc": abi.CLONE_NEWIPC,
        "uts": abi.CLONE_NEWUTS,
        "user": abi.CLONE_NEWUSER,
        "cgroup": abi.CLONE_NEWCGROUP,
    }
    assert from_plan == sum(files[kind] for kind in made)
    if reclones:
        kinds = kinds_of(case.plan.child)
        assert clone.namespaces == 0
        assert case.plan.child.index(INSIDE) < kinds.index(Reclone)
        assert case.plan.beside[0] == Adopt(pidfd="pidfd", proc="child")
    else:
        assert "user" not in case.joined or not made


# -- slots and descriptors -------------------------------------------------------------------------


def walk_slots(section: tuple[Op, ...], known: dict[Slot, bool]) -> None:
    """Check reads and writes of one side in order; `known` says which slots are open, and which were."""
    for op in section:
        for slot in slots.read(op):
            assert known.get(slot), f"{describe(op)} reads {slot}"
        if isinstance(op, Close):
            known[op.slot] = False
        for slot in slots.written(op):
            assert slot not in known, f"{describe(op)} writes {slot} again"
            known[slot] = True


@FEW
@given(plans())
def test_slots_are_written_once_and_read_on_the_side_that_has_them(plan: Plan) -> None:
    launcher: dict[Slot, bool] = {}
    walk_slots(plan.before[:-1], launcher)
    child = dict(launcher)
    walk_slots(plan.before[-1:], launcher)
    walk_slots(plan.child, child)
    walk_slots((*plan.beside, *plan.after), launcher)


@FEW
@given(plans())
def test_a_supervisor_holds_what_it_needs_and_nothing_else(plan: Plan) -> None:
    launcher: dict[Slot, bool] = {}
    walk_slots((*plan.before, *plan.beside), launcher)
    needed = {slot for op in (plan.beside[-1], *plan.after) for slot in slots.read(op)}
    needed |= {op.slot for op in (*plan.before, *plan.beside) if isinstance(op, ops.Bind)}
    assert {slot for slot, is_open in launcher.items() if is_open} - needed <= {"lock", "hold"}


@FEW
@given(plans())
def test_every_descriptor_is_closed_at_the_exec(plan: Plan) -> None:
    """It comes before the seccomp filter, which need not know close_range(2); nothing is opened afterwards."""
    kinds = kinds_of(plan.child)
    sealed = kinds.index(SealDescriptors)
    assert kinds.count(SealDescriptors) == 1
    assert kinds.index(SetStdio) < sealed < kinds.index(Exec)
    assert [slot for op in plan.child[sealed:] for slot in slots.written(op)] == []
    assert LoadSeccomp not in kinds[:sealed]


def test_the_tables_of_slots_are_whole() -> None:
    """Every field that holds a slot is in exactly one of the two tables."""
    for kind in Op.__subclasses__():
        hints = get_type_hints(kind)
        fields = {name for name, hint in hints.items() if hint is Slot or set(get_args(hint)) == {Slot, type(None)}}
        fields -= {"path", "name", "text", "target", "address", "log_name", "lost", "data"}  # a slot is a str, too
        writes, reads = slots._WRITES.get(kind, ()), slots._READS.get(kind, ())
        assert not set(writes) & set(reads)
        assert {*writes, *reads} == fields, kind


# -- the two sides ---------------------------------------------------------------------------------


def said(section: tuple[Op, ...]) -> list[str]:
    """What a side says, in order."""
    names: list[str] = []
    for op in section:
        match op:
            case Tell(name=name):
                names.append(name)
            case Send():
                names.append("<descriptor>")
            case Reclone():
                names.append("<descriptor>")
    return names


def heard(section: tuple[Op, ...]) -> list[str]:
    """What a side waits for, in order."""
    names: list[str] = []
    for op in section:
        match op:
            case Await(name=name):
                names.append(name)
            case Receive() | Adopt():
                names.append("<descriptor>")
    return names


@FEW
@given(plans())
def test_each_side_hears_exactly_what_the_other_says(plan: Plan) -> None:
    assert heard(plan.child) == said(plan.beside)
    assert heard(plan.beside) == said(plan.child)


@FEW
@given(plans())
def test_neither_side_waits_for_ever(plan: Plan) -> None:
    sides = [plan.child, plan.beside]
    at, queued = [0, 0], [0, 0]
    moved = True
    while moved:
        moved = False
        for side in (0, 1):
            while at[side] < len(sides[side]):
                op = sides[side][at[side]]
                if heard((op,)):
                    if queued[side] == 0:
                        break
                    queued[side] -= 1
                queued[1 - side] += len(said((op,)))
                at[side] += 1
                moved = True
    assert at == [len(plan.child), len(plan.beside)]


def _joins(section: tuple[Op, ...]) -> list[Op]:
    return [op for op in section if isinstance(op, WriteFile) and op.path.endswith("/tasks")]


@FEW
@given(plans())
def test_the_process_is_in_its_cgroup_before_it_runs(plan: Plan) -> None:
    kinds = kinds_of(plan.child)
    joins = [plan.child.index(op) for op in _joins(plan.child)]
    outside = [number for number, kind in enumerate(kinds) if kind in (SetNamespace, Unshare, Reclone, PivotRoot)]
    assert max(joins, default=-1) < min((*outside, kinds.index(Exec)))
    assert plan.child.index(Await(name="placed")) < kinds.index(SetStdio) < kinds.index(Exec)


@FEW
@given(plans())
def test_nobody_waits_for_an_rcu_grace_period(plan: Plan) -> None:
    """Only a thread that moves itself by `tasks`, and a birth, take no lock of all forks."""
    for op in (*plan.before, *plan.child, *plan.beside):
        if isinstance(op, WriteFile):
            assert not op.path.endswith("cgroup.procs")
            assert not op.path.endswith("/tasks") or op.data == b"0"


@FEW
@given(plans())
def test_a_supervisor_is_in_its_cgroup_before_it_is_anything_else(plan: Plan) -> None:
    """A new process has no session and no child yet; the lock says that a supervisor is alive."""
    kinds = kinds_of(plan.before)
    enters = [number for number, kind in enumerate(kinds) if kind is EnterCgroup]
    assert max(enters, default=-1) < min(kinds.index(NewSession), kinds.index(Lock))


# -- the life of a supervisor ----------------------------------------------------------------------


@FEW
@given(plans())
def test_the_exit_is_recorded_before_anything_is_torn_down(plan: Plan) -> None:
    kinds = kinds_of(plan.after)
    assert kinds.count(RecordExit) == 1
    assert set(kinds[: kinds.index(RecordExit)]) <= {Keep}
    assert Keep not in kinds[kinds.index(RecordExit) :]


@FEW
@given(plans())
def test_nothing_is_made_before_the_lock_is_held(plan: Plan) -> None:
    """A plan that fails at its lock runs no `after`, so until then there may be nothing to clear away."""
    kinds = kinds_of(plan.before)
    earlier = plan.before[: kinds.index(Lock)]
    assert {type(op) for op in earlier if op not in _joins(earlier)} <= {EnterCgroup, Close, NewSession, OpenPath}
    assert plan.child[0] == Close(slot="lock")


@FEW
@given(cases())
def test_what_is_made_is_removed(case: Case) -> None:
    removed = {op.path for op in case.plan.after if isinstance(op, Remove)}
    made = {op.path for op in case.plan.before if isinstance(op, MakeDirectory) and op.path.endswith("/onggi/c1")}
    assert made
    assert made <= removed


@FEW
@given(plans())
def test_sections_end_as_the_launcher_expects(plan: Plan) -> None:
    assert isinstance(plan.before[-1], Clone)
    assert isinstance(plan.child[-1], Exec)
    assert isinstance(plan.beside[-1], Supervise)
    for kind in (Clone, Exec, Supervise):
        assert sum(isinstance(op, kind) for op in plan.ops()) == 1


# -- as text and as bytes --------------------------------------------------------------------------


@FEW
@given(plans())
def test_every_op_is_one_line(plan: Plan) -> None:
    lines = explain_plan(plan).splitlines()
    assert len(lines) == len(plan.ops()) + 4
    numbered = [line for line in lines if line.startswith(" ")]
    assert [int(line.split()[0]) for line in numbered] == list(range(len(plan.ops())))


FIRST_KINDS: Final = {
    "Inherit": "INHERIT", "OpenPath": "OPEN_PATH", "Close": "CLOSE", "Lock": "LOCK", "Listen": "LISTEN",
    "Pipe": "PIPE", "MakeDirectory": "MKDIR", "WriteFile": "WRITE", "PutFile": "PUT", "Remove": "REMOVE",
    "Attach": "ATTACH", "AttachRoot": "ATTACH_ROOT", "MakeTarget": "TARGET", "MakeNode": "NODE",
    "MakeLink": "SYMLINK", "Mask": "MASK", "MakeReadOnly": "READONLY", "Restrict": "ATTRIBUTES",
    "Propagate": "PROPAGATE", "PivotRoot": "PIVOT", "EnterCgroup": "ENTER",
    "Clone": "CLONE", "Reclone": "RECLONE", "Adopt": "ADOPT",
    "SetNamespace": "SETNS", "Unshare": "UNSHARE", "Tell": "TELL", "Await": "AWAIT", "Send": "SEND",
    "Receive": "RECEIVE", "SetHostname": "HOSTNAME", "SetDomainname": "DOMAINNAME", "SetResourceLimit": "RLIMIT",
    "SetDeathSignal": "DEATHSIG", "SetUndumpable": "UNDUMPABLE", "DropBounding": "BOUNDING", "SetIds": "IDS",
    "SetCapabilities": "CAPABILITIES", "SetNoNewPrivileges": "NO_NEW_PRIVS", "LoadSeccomp": "SECCOMP",
    "ChangeDirectory": "CHDIR", "SetUmask": "UMASK", "OpenTerminal": "TERMINAL", "SetStdio": "STDIO",
    "NewSession": "SESSION", "SealDescriptors": "SEAL", "ForkInit": "INIT", "Exec": "EXEC", "Netlink": "NETLINK",
    "Bind": "BIND", "FilterDevices": "DEVICES", "KillMembers": "KILL", "Supervise": "SUPERVISE", "Keep": "KEEP",
    "RecordExit": "RECORD",
}  # fmt: skip


def expected_kinds(op: Op) -> list[str]:
    """The records of one op."""
    if not isinstance(op, Open):
        return [FIRST_KINDS[type(op).__name__]]
    kinds = ["TREE"]
    if isinstance(op.origin, NewFs):
        values = [value for _, value in op.origin.options]
        kinds = ["FS_OPEN", *(["FS_STRING"] if op.origin.source is not None else [])]
        kinds += ["FS_FLAG" if v is None else "FS_FD" if isinstance(v, SlotHole) else "FS_STRING" for v in values]
        kinds.append("FS_MOUNT")
    recursive = bool(op.recursive_set or op.recursive_clear or op.recursive_propagation)
    plain = bool(op.set or op.clear or op.idmap or (op.propagation and not op.recursive_propagation))
    return kinds + ["ATTRIBUTES"] * (recursive + plain)


@FEW
@given(plans())
def test_the_wire_form_says_the_same(plan: Plan) -> None:
    decoded = decode_plan(encode_plan(plan, "0123456789abcdef"))
    assert decoded.build_id == "0123456789abcdef"
    number = 0
    for (_, section), records in zip(plan.sections(), decoded.sections, strict=True):
        expected = []
        for op in section:
            expected += [(kind, number, op.tolerate) for kind in expected_kinds(op)]
            number += 1
        seen = [(r.kind, r.op, tuple(errno for errno in r.tolerate if errno)) for r in records]
        assert seen == expected
    (last,) = (r for r in decoded.sections[1] if r.kind == "EXEC")
    exec_ = plan.child[-1]
    assert isinstance(exec_, Exec)
    texts = [[text.decode("utf-8", "surrogateescape") for text in strings(span)] for span in last.texts[:3]]
    assert texts == [list(exec_.candidates), list(exec_.argv), list(exec_.env)]
    every = [slot for section in decoded.sections for record in section for slot in record.slots]
    known = {slot for op in plan.ops() for slot in (*slots.read(op), *slots.written(op))}
    assert max(every) < decoded.slots <= len(known) + 1


def test_every_kind_of_record_belongs_to_an_op() -> None:
    assert {*FIRST_KINDS.values(), "FS_OPEN", "FS_STRING", "FS_FLAG", "FS_FD", "FS_MOUNT", "TREE"} == set(KINDS)
    assert {kind.__name__ for kind in Op.__subclasses__()} == {*FIRST_KINDS, "Open"}


def test_the_launchers_header_is_current() -> None:
    assert (SOURCES / "plan.h").read_text() == render_header(), "python -m onggi.plan.wire > launcher/plan.h"


# -- anything else is refused ----------------------------------------------------------------------


@FEW
@given(runtime_specs(), st.sampled_from(sorted(FACTS)))
def test_a_spec_is_planned_or_refused_in_a_sentence(spec: Spec, host: str) -> None:
    try:
        plan = plan_container(spec, Directory(path="/b/rootfs"), Supervision(run_directory="/run/c"), FACTS[host])
    except (InvalidArgument, NotSupported) as error:
        refusal = str(error)
    else:
        refusal = ""
        encode_plan(plan, "0123456789abcdef")
    assert not refusal or len(refusal) > 20


@pytest.mark.parametrize("host", sorted(FACTS))
def test_recorded_hosts_are_what_their_names_say(host: str) -> None:
    assert FACTS[host].cgroup.layout == host
