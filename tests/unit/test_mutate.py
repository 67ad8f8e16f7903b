"""What `./run mutate` takes away is everything that the launcher and the builder have."""

import re
from pathlib import Path

from onggi.build.dockerfile import instructions
from onggi.build.graph import CopyStep, RunStep, WorkdirStep
from tests.mutate import EQUIVALENT, EVERYTHING, FAILURES, ROOT, mutants

MUTANTS = {mutant.name: mutant for mutant in mutants()}


def named(kind: str) -> set[str]:
    return {name.partition(":")[2] for name in MUTANTS if name.startswith(f"{kind}:")}


def test_every_op_has_two() -> None:
    ops = set(re.findall(r"^    OP_(\w+) = ", (ROOT / "launcher/plan.h").read_text(), re.M)) - {"COUNT"}
    assert len(ops) > 50
    assert named("op") == named("idle") == ops


def test_every_instruction_is_unknown_once_and_not_followed_once() -> None:
    kinds = {kind.__name__ for kind in instructions.Instruction.__subclasses__()}
    assert named("graph") == kinds - {"From"}  # a stage without its FROM is none
    assert len(named("parse")) == len(kinds) + 1  # COPY and ADD are one kind
    assert named("step") == {step.__name__ for step in (RunStep, CopyStep, WorkdirStep)}


def test_a_mutant_differs_from_its_file_by_what_it_is_named_for() -> None:
    for name, mutant in MUTANTS.items():
        assert mutant.text != (ROOT / mutant.path).read_text(), name
        if mutant.path.endswith(".py"):
            compile(mutant.text, mutant.path, "exec")


def test_the_tests_it_runs_are_there() -> None:
    paths = {*EVERYTHING, FAILURES, *(path for mutant in MUTANTS.values() for path in mutant.tests)}
    assert [path for path in paths if not Path(ROOT, path).exists()] == []
    assert {*EQUIVALENT} <= {*MUTANTS}
