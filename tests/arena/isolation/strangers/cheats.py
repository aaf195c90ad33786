"""Attackers that cheat, planted: each tries what an attacker must not be able to do."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arena import draws
from arena.players import Attacker, Games, Play

CHANNEL = 3


def ask_once(games: Games) -> Play:
    yield from games.ask(games.x0, purpose="first")


@dataclass(frozen=True)
class Prober(Attacker):
    """Tries everything that can fail and leave it alive; a note of its name tells what came of each.

    Attributes:
        files: paths that it wants to read.
        folder: where it wants to leave something.
        process: whom it wants to read and to end.
        module: another agent's module.
    """

    files: tuple[str, ...] = ()
    folder: str = "/tmp"
    process: int = 1
    module: str = "other_stranger"

    def play(self, games: Games) -> Play:
        yield from ask_once(games)
        i = games.open
        tried: dict[str, Callable[[], Any]] = {
            **{
                f"read {Path(path).name}": lambda path=path: Path(path).read_bytes()[:1]
                for path in self.files
            },
            "write": lambda: (Path(self.folder) / "left behind").write_text("I was here"),
            "write here": lambda: Path("left behind").write_text("I was here"),
            "write memory": lambda: Path("/dev/shm/left-behind").write_text("I was here"),
            "truncate": lambda: os.truncate(__file__, 0),
            "list": lambda: list(Path(self.folder).iterdir()),
            "environment": lambda: dict(os.environ),
            "command": lambda: Path(f"/proc/{self.process}/cmdline").read_bytes(),
            "memory of another": lambda: Path(f"/proc/{self.process}/mem").read_bytes(),
            "own memory": lambda: Path("/proc/self/mem").read_bytes(),
            "process_vm_readv": lambda: call(310, self.process, 0, 0, 0, 0, 0),
            "ptrace": lambda: call(101, 16, self.process, 0, 0),
            "pidfd_open": lambda: call(434, self.process, 0),
            "kill": lambda: os.kill(self.process, signal.SIGKILL),
            "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
            "kill all": lambda: os.kill(-1, signal.SIGKILL),
            "unbind": lambda: prctl(1, 0),
            "socket": lambda: socket.socket(),
            "unix socket": lambda: socket.socketpair(),
            "fork": lambda: os.fork(),
            "daemon": lambda: os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}),
            "run": lambda: subprocess.run(["/bin/true"]),
            "replace": lambda: os.execv("/bin/true", ["true"]),
            "memfd": lambda: os.memfd_create("hidden"),
            "unlimited": lambda: __import__("resource").setrlimit(7, (10**6, 10**6)),
            "other agent": lambda: importlib.import_module(self.module),
            "classifiers": networks,
            "modules": lambda: sorted(m for m in sys.modules if m.startswith("arena.classifiers")),
            "data": lambda: importlib.import_module("sklearn.datasets").load_digits().data.shape,
            "loader": lambda: importlib.import_module("arena.classifiers").__name__,
            "thread": in_a_thread,
            "descriptors": open_descriptors,
        }
        for name, attempt in tried.items():
            yield from games.note(name, outcome(attempt), i)


def outcome(attempt: Callable[[], Any]) -> str:
    try:
        return f"done: {attempt()!r}"[:200]
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]


def call(number: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def prctl(*arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*arguments, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def networks() -> list[str]:
    """Networks, and tensors as large as the weights of one, that some object of this process holds."""
    found = [o for o in gc.get_objects() if isinstance(o, torch.nn.Module)]
    frame = sys._getframe()
    names = []
    while frame is not None:
        names += [type(v).__name__ for v in frame.f_locals.values()]
        frame = frame.f_back  # type: ignore[assignment]
    wanted = {"Classifier", "Stack", "StackOracle", "Referee", "Openings", "Board", "Rows"}
    return [type(o).__name__ for o in found] + sorted(wanted & {*names})


def in_a_thread() -> str:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append("in a thread"))
    thread.start()
    thread.join()
    return told[0]


def open_descriptors() -> list[int]:
    found = []
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found


@dataclass(frozen=True)
class Ender(Attacker):
    """Asks once, then does its deed."""

    deed: str = "exit"

    def play(self, games: Games) -> Play:
        yield from ask_once(games)
        DEEDS[self.deed](games)
        yield from games.ask(games.x0, purpose="second")


def sleep(games: Games) -> None:
    time.sleep(1000)


def compute(games: Games) -> None:
    while True:
        pass


def print_for_ever(games: Games) -> None:
    while True:
        print("all work and no play" * 100, flush=True)


def take_memory(games: Games) -> None:
    held = []
    while True:
        held.append(torch.ones(2**22))


def begin_threads(games: Games) -> None:
    while True:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def prefix(header: int, body: int, form: bytes = b"ARN1") -> bytes:
    return struct.pack("<4sIQ", form, header, body)


def say(content: bytes) -> Callable[[Games], None]:
    def send(games: Games) -> None:
        os.write(CHANNEL, content)
        time.sleep(1000)

    return send


def message(*told: Any, body: bytes = b"") -> bytes:
    header = json.dumps(told).encode()
    return prefix(len(header), len(body)) + header + body


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/unpickled-by-arena",)


def leave_thread(games: Games) -> None:
    """Another thread speaks out of turn, while the arena answers."""

    def chatter() -> None:
        while True:
            os.write(CHANNEL, message("Volley", {}, []))

    for _ in range(2):
        threading.Thread(target=chatter, daemon=True).start()


DEEDS: dict[str, Callable[[Games], Any]] = {
    "exit": lambda games: os._exit(3),
    "exit 0": lambda games: os._exit(0),
    "stop": lambda games: os.kill(os.getpid(), signal.SIGSTOP),
    "crash": lambda games: ctypes.string_at(0),
    "sleep": sleep,
    "compute": compute,
    "print": print_for_ever,
    "memory": take_memory,
    "threads": begin_threads,
    "close": lambda games: os.close(CHANNEL),
    "garbage": say(b"\xff" * 100),
    "huge header": say(prefix(2**32 - 1, 0)),
    "huge body": say(prefix(10, 2**60)),
    "half": say(prefix(100, 0) + b'["Volley'),
    "no json": say(prefix(4, 0) + b"nope"),
    "deep json": say(prefix(2**17, 0) + b"[" * 2**17),
    "no move": say(message("Evaluate", {}, [])),
    "no fields": say(message("Volley", {}, [])),
    "huge tensor": say(
        message("Submit", {"x": ["tensor", 0], "game": ["tensor", 1]}, [["float32", [2**39]]])
    ),
    "negative tensor": say(message("Resign", {}, [["float32", [-1]]])),
    "pickle": say(pickle.dumps(Bomb())),
    "pickle in a tensor": say(
        message("Note", {}, [["uint8", [len(pickle.dumps(Bomb()))]]], body=pickle.dumps(Bomb()))
    ),
    "chatter": leave_thread,
    "failed": lambda games: (_ for _ in ()).throw(ValueError("no more")),
    "leave": lambda games: sys.exit(0),
}


@dataclass(frozen=True)
class SeedReader(Attacker):
    """Tries all seeds up to `most`: one from which its own follows gives it the defender's noise, too."""

    most: int = 1000

    def play(self, games: Games) -> Play:
        first = yield from games.ask(games.x0)
        second = yield from games.ask(games.x0)
        i = games.open
        found = "nothing"
        for seed in range(self.most):
            if draws.derive(seed, "attacker", 0) != games.seed:
                continue
            layer = draws.derive(draws.derive(seed, "defender", 0), 0)
            turns = [torch.full_like(games.key, turn) for turn in (1, 2)]
            shape = first.scores.shape[1:]
            noise = [draws.normal(layer, games.key, turn, shape, stream=0) for turn in turns]
            rest = [a.scores - 0.1 * n for a, n in zip((first, second), noise, strict=True)]
            if torch.allclose(rest[0], rest[1], atol=1e-5):
                found = f"the noise, by seed {seed}"
        yield from games.note("found", found, i)


@dataclass(frozen=True)
class NumberReader(Attacker):
    """Carries an image for each game number that it knows."""

    known: tuple[int, ...] = ()

    def play(self, games: Games) -> Play:
        yield from ask_once(games)
        i = games.open
        known = [int(key) in self.known for key in games.key[i]]
        yield from games.note("known", torch.tensor(known).double(), i)


@dataclass(frozen=True)
class Honest(Attacker):
    """Random steps; prints a little, begins a thread, uses global draws of its own process."""

    steps: int = 4

    def play(self, games: Games) -> Play:
        print("hello")
        in_a_thread()
        for step in range(self.steps):
            if not len(i := games.open):
                return
            x = games.x0[i] + 0.2 * games.normal(games.x0.shape[1:], i) + 0.01 * torch.rand(())
            yield from games.ask(x.clamp(0, 1), i, f"step {step % 2}")
            yield from games.note("step", step, i)


@dataclass(frozen=True)
class Malformed(Attacker):
    """Sends moves that are none, and notes what it is told."""

    def play(self, games: Games) -> Play:
        from arena.players import Claim, Consult, Note, Resign, Submit, Volley, VolleyError

        x, all_games = games.x0, torch.arange(len(games))
        moves: list[Any] = [
            Volley(x.double(), all_games),
            Volley(x.repeat(5000, 1, 1, 1), all_games.repeat(5000)),
            Volley(x[:, :, :1], all_games),
            Volley(x.numpy(), all_games),  # type: ignore[arg-type]
            Volley(torch.nn.Parameter(x), all_games),
            Volley(x * torch.nan, all_games),
            Volley(x, all_games + 1),
            Volley(x, all_games.float()),
            Volley(x, all_games, purpose=5),  # type: ignore[arg-type]
            Volley(x, all_games, purpose="long" * 50),
            Volley(x.to_sparse(), all_games),
            Volley(x.to(torch.complex64), all_games),
            Submit(x[:1].repeat(2, 1, 1, 1), all_games[:1].repeat(2)),
            Claim([x], all_games),  # type: ignore[arg-type]
            Resign(all_games, "bored"),  # type: ignore[arg-type]
            Resign([0]),  # type: ignore[arg-type]
            Note("key", {"a": 1}, all_games),  # type: ignore[arg-type]
            Note("key", 10**400, all_games),
            Note("key", 10**5000, all_games),
            Note("k\0y", 1.0, all_games),
            Note("key", "\ud800", all_games),
            Note("key", torch.ones(3, 3), all_games),
            Note("key", torch.ones(len(x), dtype=torch.complex64), all_games),
            Consult(x, all_games, "weights"),  # type: ignore[arg-type]
            "a move",
            None,
        ]
        for number, move in enumerate(moves):
            try:
                yield move
                said = "taken"
            except VolleyError as error:
                said = str(error)
            yield from games.note(f"{number}", said, all_games[:1])
            if number % 5 == 4:
                yield from games.ask(x)
