"""The launcher's decoder under libFuzzer, seeded with real plans: what it accepts is safe to read.

A minute, or as many seconds as ONGGI_FUZZ_SECONDS says. What was found is in the
test's directory, and `decode_fuzz FILE` runs it again.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

from launcher import build
from onggi.plan.wire import HEADER, MAX_SLOTS, encode_plan
from tests.plans import load_recorded, recorded_cases

SECONDS: Final = int(float(os.environ.get("ONGGI_FUZZ_SECONDS", "60")))
FLAGS: Final = (
    "-g",
    "-O1",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)
PARTS: Final = (Path(__file__).parent / "decode_fuzz.c", build.SOURCES / "decode.c", build.SOURCES / "side.c")


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the harness."""
    if shutil.which("clang") is None:
        pytest.skip("needs clang: apt-get install clang libclang-rt-14-dev (or of the clang that is installed)")
    program = tmp_path_factory.mktemp("fuzz") / "decode_fuzz"
    command = ["clang", *build.WARNINGS, *FLAGS, "-o", str(program), *map(str, PARTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "libclang_rt" in done.stderr:
        pytest.skip("needs clang's runtime: apt-get install libclang-rt-14-dev (or of the clang that is installed)")
    assert (done.returncode, done.stderr) == (0, "")
    return program


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Write every recorded plan in its wire form, and each of them a few times with one record only."""
    corpus = tmp_path / "seeds"
    corpus.mkdir()
    for path in recorded_cases():
        (corpus / path.stem).write_bytes(encode_plan(load_recorded(path).plan(), "0123456789abcdef"))
    return corpus


def run(fuzzer: Path, *arguments: str) -> None:
    """Run the fuzzer; a finding fails the test with its report."""
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # Peak memory is inherited over exec: a shell in between forks, so that the limit is not about this Python's.
    command = ["sh", "-c", '"$@"; exit $?', "fuzz", str(fuzzer), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=fuzzer.parent)
    assert done.returncode == 0, done.stderr[-6000:]


def test_real_plans_are_read_whole(fuzzer: Path, seeds: Path) -> None:
    run(fuzzer, *map(str, sorted(seeds.iterdir())))


@pytest.mark.timeout(SECONDS + 120)
def test_the_decoder_is_safe(fuzzer: Path, seeds: Path, tmp_path: Path) -> None:
    found = tmp_path / "corpus"
    found.mkdir()
    limits = (f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=131072", "-verbosity=0")
    run(fuzzer, *limits, f"-artifact_prefix={tmp_path}/", str(found), str(seeds))


def cut(seed: bytes, at: int, value: bytes) -> bytes:
    """Replace some bytes."""
    return seed[:at] + value + seed[at + len(value) :]


def test_what_lies_at_the_edges(fuzzer: Path, seeds: Path, tmp_path: Path) -> None:
    """Sizes, counts, slots and spans one too far, and as far as they go."""
    seed = next(iter(sorted(seeds.iterdir()))).read_bytes()
    records = HEADER.size
    edges = {
        "empty": b"",
        "header only": seed[: HEADER.size],
        "short by one": seed[:-1],
        "long by one": seed + b"\0",
        "no records": cut(seed, 16, struct.pack("<4I", 0, 0, 0, 0)),
        "many records": cut(seed, 16, struct.pack("<4I", *[0xFFFFFFFF] * 4)),
        "slots": cut(seed, 32, struct.pack("<H", MAX_SLOTS + 1)),
        "no slots": cut(seed, 32, struct.pack("<H", 0)),
        "kind": cut(seed, records, struct.pack("<H", 0xFFFF)),
        "slot": cut(seed, records + 12, struct.pack("<4h", 32767, -2, -32768, 0)),
        "span": cut(seed, records + 56, struct.pack("<8I", *[0xFFFFFFFF] * 8)),
        "span that wraps": cut(seed, records + 56, struct.pack("<8I", *[1, 0xFFFFFFFF] * 4)),
        "span to the end": cut(seed, records + 56, struct.pack("<8I", *[0, len(seed)] * 4)),
    }
    paths = []
    for name, data in edges.items():
        path = tmp_path / name.replace(" ", "-")
        path.write_bytes(data)
        paths.append(str(path))
    run(fuzzer, *paths)
