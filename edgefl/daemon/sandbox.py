# SPDX-License-Identifier: Apache-2.0
"""What a child process takes from itself: memory, priority, CPUs, sockets, new programs, its own life.

In: limits.  Out: whether the kernel enforces them. A seccomp filter (x86-64, AArch64, ARM) answers EPERM to
system calls that open sockets, start programs or look into other processes, io_uring among them since it can
do the same; calls of another ABI kill the process. Called before numpy starts threads, so that all of them
inherit the filter.
Invariant: what is taken cannot be taken back. Source: seccomp(2), linux/seccomp.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Sequence

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SECCOMP_MODE_FILTER = 2
RET_ALLOW, RET_ERRNO_EPERM, RET_KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x80000000
BPF_LOAD, BPF_JUMP_EQUAL, BPF_JUMP_GREATER_EQUAL, BPF_RETURN = 0x20, 0x15, 0x35, 0x06
X32_BIT = 0x40000000

# machine: (audit architecture, {call: number}); numbers from the kernel's tables of system calls.
CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "socketpair": 53, "execve": 59, "execveat": 322, "ptrace": 101,
            "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "socket": 198, "socketpair": 199, "execve": 221, "execveat": 281, "ptrace": 117,
            "process_vm_readv": 270, "process_vm_writev": 271, "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
    "armv7l": (
        0x40000028,
        {
            "socket": 281, "socketpair": 288, "socketcall": 102, "execve": 11, "execveat": 387, "ptrace": 26,
            "process_vm_readv": 376, "process_vm_writev": 377, "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def die_with(parent: int) -> None:
    """End when the supervisor ends, however it ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1 != parent:  # it ended before the call above
        os._exit(1)


def limit(memory_mib: int, nice: int, cpus: Sequence[int]) -> None:
    """Bound the address space, lower the priority, stay on these CPUs (none: all), leave no core dump."""
    size = memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(nice)
    if cpus:
        os.sched_setaffinity(0, cpus)


def deny_network() -> bool:
    """Install the filter; returns whether it holds."""
    machine = "armv7l" if platform.machine().startswith("armv") else platform.machine()
    if machine not in CALLS or struct.calcsize("P") != (4 if machine == "armv7l" else 8):
        return False
    code = program(*CALLS[machine], x32=machine == "x86_64")
    if _prctl(PR_SET_NO_NEW_PRIVS, 1) != 0:
        return False
    argument = ctypes.byref(_Program(len(code) // 8, code))
    return _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, argument) == 0


def program(architecture: int, calls: dict[str, int], *, x32: bool) -> bytes:
    """Return the BPF code: other architectures die, listed calls get EPERM, all else passes."""
    numbers = sorted(calls.values())
    code = [
        (BPF_LOAD, 0, 0, 4),  # seccomp_data.arch
        (BPF_JUMP_EQUAL, 1, 0, architecture),
        (BPF_RETURN, 0, 0, RET_KILL_PROCESS),
        (BPF_LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    if x32:
        code += [(BPF_JUMP_GREATER_EQUAL, 0, 1, X32_BIT), (BPF_RETURN, 0, 0, RET_KILL_PROCESS)]
    for i, number in enumerate(numbers):
        code.append((BPF_JUMP_EQUAL, len(numbers) - i, 0, number))  # to the last line
    code += [(BPF_RETURN, 0, 0, RET_ALLOW), (BPF_RETURN, 0, 0, RET_ERRNO_EPERM)]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _prctl(option: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [a if not isinstance(a, int) else ctypes.c_ulong(a) for a in arguments]
    result: int = libc.prctl(option, *values, *[ctypes.c_ulong(0)] * (4 - len(values)))
    return result
