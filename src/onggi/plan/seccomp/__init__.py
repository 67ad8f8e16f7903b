"""The seccomp compiler: a profile (Docker's format or runtime-spec's) to classic BPF, as values.

Owns the numbers of system calls, Docker's default profile, and the meaning of a
rule, which is libseccomp's as runc uses it (`rules.py` says it in full).
"""

from .compiler import FLAGS, SeccompProgram, compile_seccomp
from .docker import docker_profile, resolve_profile
from .rules import ACTIONS, OPERATORS

__all__ = [
    "ACTIONS",
    "FLAGS",
    "OPERATORS",
    "SeccompProgram",
    "compile_seccomp",
    "docker_profile",
    "resolve_profile",
]
