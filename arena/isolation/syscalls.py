"""Which system calls an agent's process may make, and the filter (seccomp-BPF) that denies all others.

What is not named here is denied with EPERM: sockets, processes, signals to others, debugging, mounts, keys,
timers, io_uring, memory without a mapping, anything that a later kernel brings. Threads, memory, clocks, and
reading files are allowed; which files, Landlock says (`sandbox`).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_NUMBERS = {
    # name: (x86_64, aarch64); None where there is none
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "close": (3, 57),
    "close_range": (436, 436),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "fstatfs": (138, 44),
    "statfs": (137, 43),
    "fadvise64": (221, 223),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "umask": (95, 166),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "mincore": (27, 232),
    "get_mempolicy": (239, 236),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "set_tid_address": (218, 96),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "times": (100, 153),
    "getitimer": (36, 102),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "getrandom": (318, 278),
    "arch_prctl": (158, None),
}
_OPEN, _OPENAT = (2, None), (257, 56)
_CLONE, _CLONE3 = (56, 220), (435, 435)
_FCNTL, _IOCTL, _PRCTL, _PRLIMIT = (72, 25), (16, 29), (157, 167), (302, 261)
_KILL, _TGKILL = (62, 129), (234, 131)

_CLONE_THREAD = 0x10000
_WRITES = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_FCNTLS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX
_PRCTLS = (15, 16)  # PR_SET_NAME, PR_GET_NAME

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_DENY = _ERRNO | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_Instruction = tuple[int, int, int, int]


def knows(machine: str) -> bool:
    """Whether the calls of such a machine (`os.uname().machine`) are known."""
    return machine in _ARCHITECTURES


def program(machine: str, own: int) -> bytes:
    """The filter for a process of number `own` on such a machine: `sock_filter`s, one after another."""
    column = list(_ARCHITECTURES).index(machine)
    rules = [
        *_when(_EQUAL, _ARCHITECTURES[machine], load=_ARCHITECTURE_AT, otherwise=_DENY),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_when(_AT_LEAST, _X32, then=_DENY),
    ]
    for name in _NUMBERS:
        if (number := _NUMBERS[name][column]) is not None:
            rules += _when(_EQUAL, number, then=_ALLOW)
    rules += _call(_CLONE[column], [*_argument(0), *_when(_ANY_BIT, _CLONE_THREAD, then=_ALLOW)])
    # glibc goes back to clone, whose flags can be looked at.
    rules += _call(_CLONE3[column], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    for call, place in ((_OPEN, 1), (_OPENAT, 2)):
        reading = [*_argument(place), *_when(_ANY_BIT, _WRITES, then=_ERRNO | errno.EACCES)]
        rules += _call(call[column], [*reading, (_RETURN, 0, 0, _ALLOW)])
    for call, place, allowed in (
        (_FCNTL, 1, _FCNTLS),
        (_IOCTL, 1, _IOCTLS),
        (_PRCTL, 0, _PRCTLS),
        (_PRLIMIT, 0, (0,)),
        (_KILL, 0, (own,)),
        (_TGKILL, 0, (own,)),
    ):
        rules += _call(call[column], [*_argument(place), *_one_of(allowed)])
    rules.append((_RETURN, 0, 0, _DENY))
    return b"".join(struct.pack("HBBI", *rule) for rule in rules)


def _when(
    test: int, value: int, *, then: int | None = None, otherwise: int | None = None, load: int | None = None
) -> list[_Instruction]:
    """Return `then` if what is loaded passes the test against `value`, or `otherwise` if it does not."""
    rules: list[_Instruction] = [] if load is None else [(_LOAD, 0, 0, load)]
    if then is not None:
        return [*rules, (test, 0, 1, value), (_RETURN, 0, 0, then)]
    assert otherwise is not None
    return [*rules, (test, 1, 0, value), (_RETURN, 0, 0, otherwise)]


def _call(number: int | None, rules: Sequence[_Instruction]) -> list[_Instruction]:
    """These rules for one call alone; denied if none of them returns."""
    if number is None:
        return []
    own = [*rules, (_RETURN, 0, 0, _DENY)]
    return [(_EQUAL, 0, len(own), number), *own]


def _argument(place: int) -> list[_Instruction]:
    """Load the lower half of an argument; the machines that are known have it first."""
    return [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place)]


def _one_of(allowed: Sequence[int]) -> list[_Instruction]:
    return [rule for value in allowed for rule in _when(_EQUAL, value, then=_ALLOW)]
