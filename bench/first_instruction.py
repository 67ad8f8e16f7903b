"""A program with the Python API: for each line on stdin it runs a container that prints its clock.

It answers with the nanoseconds from the call until that clock, the container's first instruction.
"""

import sys
import time

from onggi import Engine

with Engine(sys.argv[1]) as engine:
    for _ in sys.stdin:
        called = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        with engine.containers.run(sys.argv[2]) as container:
            container.wait()
            said = "".join(line.log for line in container.logs())
        print(int(said) - called, flush=True)
