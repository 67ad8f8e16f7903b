"""A bridge network in the whole plan of a container: what may fail comes first, what others see last, and back."""

from collections.abc import Sequence
from typing import Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onggi.plan import abi
from onggi.plan.container import plan_container, plan_sign_of_life
from onggi.plan.explain import describe
from onggi.plan.network import plan_attachment
from onggi.plan.ops import Bind, Clone, Close, Netlink, Op, PutFile, RecordExit, SetNamespace, Tell
from onggi.spec.ports import PublishedPort
from onggi.spec.runtime import Spec
from tests.plans import FACTS, Case, plannable_specs, roots, supervisions
from tests.unit.test_network_messages import attachment

HOLD: Final = "hold-network"
OWN: Final = "own-network"

published = st.builds(
    PublishedPort,
    protocol=st.sampled_from(("tcp", "udp")),
    host_ip=st.sampled_from(("0.0.0.0", "127.0.0.1", "::", "2001:db8::1")),
    host_port=st.integers(1, 65535),
    container_port=st.integers(1, 65535),
)


@st.composite
def attached(draw: st.DrawFn) -> Case:
    """Plan containers with a network namespace of their own, at a bridge, with at least one port."""
    facts = FACTS[draw(st.sampled_from(sorted(FACTS)))]
    fresh = plannable_specs().filter(_makes_network)
    spec, root, supervision = draw(fresh), draw(roots()), draw(supervisions())
    spec_without_rules = _without_seccomp(spec)
    ports = tuple(draw(st.lists(published, min_size=1, max_size=4, unique=True)))
    network = plan_attachment(attachment(ports=ports))
    plan = plan_container(spec_without_rules, root, supervision, facts, bundle="/bundle", network=network)
    return Case(spec=spec_without_rules, root=root, supervision=supervision, facts=facts, plan=plan)


def _makes_network(spec: Spec) -> bool:
    namespaces = spec.linux.namespaces or () if spec.linux else ()
    return any(each.type == "network" and not each.path for each in namespaces)


def _without_seccomp(spec: Spec) -> Spec:
    """Leave out filters: rules that contradict each other are refused, and are no matter of networks."""
    assert spec.linux is not None
    return msgspec.structs.replace(spec, linux=msgspec.structs.replace(spec.linux, seccomp=None))


def place(ops: Sequence[Op], kind: type[Op], text: str = "") -> int:
    """Give the place of the only such op."""
    (found,) = [n for n, op in enumerate(ops) if isinstance(op, kind) and text in describe(op)]
    return found


PLANNED = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@PLANNED
@given(attached())
def test_ports_are_held_before_anything_is_made(case: Case) -> None:
    """Only the sign of life comes earlier, by which the next command finds what a lost launcher left."""
    life = len(plan_sign_of_life(case.supervision, case.facts))
    kinds = [type(op) for op in case.plan.before]
    held = kinds.count(Bind)
    assert held > 0
    assert kinds[life : life + held] == [Bind] * held
    assert kinds.index(Clone) > life + held


@PLANNED
@given(attached())
def test_ports_are_published_when_all_else_is_ready_and_before_the_container_goes_on(case: Case) -> None:
    beside = case.plan.beside
    link, publishing = place(beside, Netlink, "make veth"), place(beside, Netlink, "publish ")
    addresses = [n for n, op in enumerate(beside) if isinstance(op, Netlink) and "eth0 " in describe(op)]
    assert link < min(n for n in addresses if n != link)
    assert max(addresses) < publishing
    assert publishing < place(beside, PutFile, "state") < place(beside, Tell, "placed")


@PLANNED
@given(attached())
def test_the_launcher_is_in_the_containers_network_for_its_addresses_only(case: Case) -> None:
    """What is sent in the wrong namespace would change the host, or publish nothing there."""
    inside = False
    for op in case.plan.beside:
        if isinstance(op, SetNamespace) and op.types == abi.CLONE_NEWNET:
            assert op.slot == (OWN if inside else HOLD)
            inside = not inside
        elif isinstance(op, Netlink):
            text = describe(op)
            assert inside == ("eth0" in text and "make veth" not in text), text
        else:
            assert not inside, describe(op)
    assert not inside


@PLANNED
@given(attached())
def test_ports_are_free_before_the_exit_is_told(case: Case) -> None:
    """First nothing leads to them any more, then they are let go: the next start may take them at once."""
    after = case.plan.after
    held = [op.slot for op in case.plan.before if isinstance(op, Bind)]
    closing = [n for n, op in enumerate(after) if isinstance(op, Close) and op.slot in held]
    assert [describe(after[n]) for n in closing] == [f"close %{slot}" for slot in held]
    assert place(after, Netlink, "no longer") < min(closing)
    assert max(closing) < place(after, RecordExit)


@PLANNED
@given(attached())
def test_the_supervisor_keeps_the_ports_and_lets_the_network_go(case: Case) -> None:
    """A port that is closed early is anybody's; the link goes when nobody holds the namespace any more."""
    held = {op.slot for op in case.plan.before if isinstance(op, Bind)}
    early = {op.slot for op in (*case.plan.before, *case.plan.beside) if isinstance(op, Close)}
    assert not held & early
    assert OWN in early
    assert HOLD not in early
    assert place(case.plan.after, Close, HOLD) > place(case.plan.after, RecordExit)
