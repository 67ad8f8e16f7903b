"""Write the recorded plans anew, after a change that is meant: `python -m tests.record_plans`, then read the diff."""

import sys

from onggi.plan.explain import explain_plan
from tests.plans import load_recorded, recorded_cases


def main() -> None:
    """Record every case, or those whose names begin with one of the arguments."""
    for path in recorded_cases():
        if len(sys.argv) == 1 or path.stem.startswith(tuple(sys.argv[1:])):
            text = explain_plan(load_recorded(path).plan())
            target = path.with_suffix(".plan")
            old = target.read_text() if target.exists() else ""
            target.write_text(text)
            print(f"{'same   ' if text == old else 'changed' if old else 'new    '} {target.name}")


if __name__ == "__main__":
    main()
