"""What an agent's process locks itself into before the agent's code is imported (Linux; no privilege needed).

In this order: no new privileges; no capabilities; limits of its resources; Landlock, by which it reads the
files it is shown and no others; seccomp, by which it makes the system calls of `syscalls` and no others: no
network, no processes, no signals to others, nothing opened for writing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from arena.isolation import syscalls

DESCRIPTORS = 256
"""Files that it may hold open at a time."""
_SLACK = 2**30
"""Bytes of addresses beyond its memory: stacks of threads and arenas of the allocator, mostly never used."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version of Landlock knows; later ones as many as the last."""
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_NETWORK, _SCOPES = (4, 0b11), (6, 0b11)
"""From which version on TCP, and signals and abstract sockets, can be denied too, and by which bits."""
_SET_PDEATHSIG, _SET_SECCOMP, _SET_DUMPABLE, _NO_NEW_PRIVS = 1, 22, 4, 38
_FILTER, _KILL, _PATH_BENEATH, _VERSION = 2, 9, 1, 1
_CAPABILITIES_3 = 0x20080522


class SandboxError(Exception):
    """The sandbox cannot be closed: one sentence."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_libc = ctypes.CDLL(None, use_errno=True)


def lacking() -> str | None:
    """One sentence on why no agent can be isolated on this machine, or None if it can."""
    if sys.platform != "linux":
        return f"an agent is isolated by means of Linux (Landlock, seccomp); this is {sys.platform}"
    if not syscalls.knows(os.uname().machine):
        return f"the system calls of {os.uname().machine} are not known here, so that none can be denied"
    if _landlock_version() < 1:
        return (
            "the kernel does not offer Landlock (Linux 5.13 or later, named in its `lsm=`), so that files "
            "cannot be kept from an agent"
        )
    if _libc.prctl(_SET_SECCOMP, _FILTER, None, 0, 0) == 0 or ctypes.get_errno() != 14:  # EFAULT: it exists
        return "the kernel does not offer seccomp filters, so that the network cannot be kept from an agent"
    return None


def dies_with(parent: int) -> None:
    """Have this process killed when `parent`, which started it, ends."""
    _check(_libc.prctl(_SET_PDEATHSIG, _KILL, 0, 0, 0), "it cannot be bound to its parent")
    if os.getppid() != parent:
        os._exit(1)


def close(readable: Iterable[str], listable: Iterable[str], memory: int) -> None:
    """Lock this process in, for good.

    Args:
        readable: files that may be read, and folders all of whose files may be.
        listable: folders in which names may be looked up, and no more.
        memory: bytes by which it may grow.

    Raises:
        SandboxError: if it cannot be closed; it is then of no use.
    """
    if (why := lacking()) is not None:
        raise SandboxError(why)
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "new privileges cannot be given up")
    _check(_libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "it cannot be closed to debuggers")
    _drop_capabilities()
    _limit(memory)
    _restrict_files(readable, listable)
    _restrict_calls()


def _limit(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    space = pages * resource.getpagesize() + memory + _SLACK
    for kind, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capabilities cannot be given up")


def _restrict_files(readable: Iterable[str], listable: Iterable[str]) -> None:
    version = _landlock_version()
    rights = _Ruleset((1 << _FS_RIGHTS.get(version, _FS_RIGHTS[5])) - 1)
    size = 8
    for field, (since, bits) in (("network", _NETWORK), ("scoped", _SCOPES)):
        if version >= since:
            setattr(rights, field, bits)
            size += 8
    ruleset = _libc.syscall(_CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(size), 0)
    _check(min(ruleset, 0), "Landlock cannot be set up")
    for path in readable:
        _allow(ruleset, path, _READ_FILE | (_READ_DIR if Path(path).is_dir() else 0))
    for path in listable:
        _allow(ruleset, path, _READ_DIR)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "files cannot be kept from it")
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # there is nothing to be read
        return
    try:
        rule = _Beneath(rights, parent)
        _check(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0), f"{path} is no place")
    finally:
        os.close(parent)


def _restrict_calls() -> None:
    content = syscalls.program(os.uname().machine, os.getpid())
    held = ctypes.create_string_buffer(content, len(content))
    of = _Program(len(content) // 8, ctypes.cast(held, ctypes.c_void_p))
    _check(_libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(of), 0, 0), "system calls cannot be denied")


def _landlock_version() -> int:
    found: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    return found


def _check(result: int, what: str) -> None:
    if result:
        raise SandboxError(f"{what}: {os.strerror(ctypes.get_errno())}")
