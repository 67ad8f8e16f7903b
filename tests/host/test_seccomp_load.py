"""The kernel takes our filters and does what they say."""

import platform
import subprocess
import sys

import pytest

from onggi.plan.seccomp import compile_seccomp, docker_profile, resolve_profile
from onggi.plan.seccomp.tables import native_arch, syscall_numbers
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

# In a process of its own, since a filter stays: load it from stdin, make calls, print what came of them.
CHILD = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
program = sys.stdin.buffer.read()
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = Filter(len(program) // 8, program)
flags = ctypes.c_ulong(int(sys.argv[1]))
assert libc.syscall(ctypes.c_long(int(sys.argv[2])), 1, flags, ctypes.byref(filter)) == 0, ctypes.get_errno()
for call in sys.argv[3:]:
    numbers = [ctypes.c_long(int(word)) for word in call.split(",")]
    result = libc.syscall(*numbers)
    print(errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno()) if result == -1 else "ok")
"""
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
# getpid; socket of AF_UNIX, AF_ALG and AF_VSOCK; io_uring_setup; clone3; a call that is not there yet
CALLS = {
    "x86_64": ["39", "41,1,1,0", "41,38,5,0", "41,40,1,0", "425,1,0", "435,0,0", "4000"],
    "aarch64": ["172", "198,1,1,0", "198,38,5,0", "198,40,1,0", "425,1,0", "435,0,0", "4000"],
}
MACHINE = platform.machine()

pytestmark = pytest.mark.skipif(MACHINE not in CALLS, reason=f"has no system calls of {MACHINE}")


def outcomes(profile: LinuxSeccomp, calls: list[str]) -> list[str]:
    program = compile_seccomp(profile, MACHINE)
    command = [sys.executable, "-c", CHILD, str(program.flags), str(SYS_SECCOMP[MACHINE]), *calls]
    done = subprocess.run(command, input=program.filter, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_dockers_profile() -> None:
    profile = resolve_profile(docker_profile(), capabilities=(), arch=MACHINE, kernel=(6, 1))
    expected = ["ok", "ok", "EPERM", "EPERM", "EPERM", "ENOSYS", "ENOSYS"]
    assert outcomes(profile, CALLS[MACHINE]) == expected


def test_without_a_filter_that_matters_the_calls_are_the_kernels_own() -> None:
    """The same calls, so that the test above cannot pass because the kernel refuses them anyway."""
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=(LinuxSyscall(names=("getpid",), action="SCMP_ACT_ERRNO", errno_ret=17),),
    )
    seen = outcomes(profile, CALLS[MACHINE])
    assert seen[:2] == ["EEXIST", "ok"]
    assert seen[4] == "EFAULT"  # io_uring_setup looks at its arguments
    assert seen[5] == "EINVAL"  # and so does clone3


def test_a_long_filter_with_far_jumps() -> None:
    """Each call fails with an errno of its own when its sixth argument is a number of its own."""
    numbers = syscall_numbers(native_arch(MACHINE))
    calls = tuple(
        LinuxSyscall(
            names=(name,),
            action="SCMP_ACT_ERRNO",
            errno_ret=1000 + number,
            args=(
                LinuxSeccompArg(index=5, value=(number << 32) + 77, op="SCMP_CMP_EQ"),
                LinuxSeccompArg(index=4, value=number, op="SCMP_CMP_NE"),
            ),
        )
        for name, number in numbers.items()
    )
    profile = LinuxSeccomp(default_action="SCMP_ACT_ALLOW", syscalls=calls)
    assert compile_seccomp(profile, MACHINE).instructions > 2000
    chosen = [numbers[name] for name in ("getpid", "gettid", "getuid", "clone3", "io_uring_setup", "mseal")]
    assert outcomes(profile, [f"{number},0,0,0,0,1,{(number << 32) + 77}" for number in chosen]) == [
        str(1000 + number) for number in chosen
    ]
    assert outcomes(profile, [f"{numbers['getpid']},0,0,0,0,1,77"]) == ["ok"]
