"""Processes that tests interrupt, kill and starve, each forked in a moment from one that has imported torch.

`python tests/children.py` is that one: it imports what most need, then forks a child for each line of JSON on
its input and tells of each child's end on its output. `Children` is the tests' side of it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = ("torch", "sklearn.datasets", "arena.cli.app", "arena.cli.play", "arena.cli.train", "arena.log")
COMMAND = "from arena.cli.app import main; main()"
PAUSE = 0.005


@dataclass
class Child:
    """A child of the process that all are forked from, much as `subprocess.Popen` shows one.

    Attributes:
        pid: its number.
        out, err: the files with what it printed.
        returncode: its exit code, or minus the signal that ended it; None before it was seen to end.
    """

    pid: int
    out: Path
    err: Path
    request: Callable[[dict[str, Any]], Any]
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.request({"poll": self.pid})
        return self.returncode

    def wait(self, seconds: float = 120) -> int:
        """Its exit code. Raises AssertionError, and kills it, if it has not ended by then."""
        self.wait_until(lambda: self.poll() is not None, seconds, alive=False)
        assert self.returncode is not None
        return self.returncode

    def wait_until(self, fact: Callable[[], bool], seconds: float = 120, alive: bool = True) -> None:
        """Look for a fact again and again; AssertionError if the child ends before it, or none comes."""
        end = time.monotonic() + seconds
        while not fact():
            if alive and self.poll() is not None and not fact():
                raise AssertionError(f"it ended with {self.returncode}: {self.out.read_text()}{self.errors}")
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise AssertionError(f"not within {seconds:g} s: {self.out.read_text()}{self.errors}")
            time.sleep(PAUSE)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def errors(self) -> str:
        return self.err.read_text()


class Children:
    """Starts the process to fork from when first asked for a child."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, 0
        self.origin: subprocess.Popen[str] | None = None

    def start(self, code: str, *words: str, largest_file: int | None = None, **env: str) -> Child:
        """Run Python `code` in the current folder with these arguments and additions to the environment.

        `largest_file` limits the files that it may write, in bytes, as a full disk does.
        """
        self.started += 1
        out, err = (self.folder / f"{self.started}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        line = {"code": code, "words": words, "cwd": str(Path.cwd()), "env": {**os.environ, **env}}
        pid = self._request({**line, "largest_file": largest_file, "out": str(out), "err": str(err)})
        return Child(pid, out, err, self._request)

    def close(self) -> None:
        if self.origin is not None:
            assert self.origin.stdin is not None
            self.origin.stdin.close()
            self.origin.wait(60)

    def _request(self, line: dict[str, Any]) -> Any:
        if self.origin is None:
            root = Path(__file__).parents[1]
            self.origin = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
            )
        assert self.origin.stdin is not None and self.origin.stdout is not None
        self.origin.stdin.write(json.dumps(line) + "\n")
        self.origin.stdin.flush()
        return json.loads(self.origin.stdout.readline())


def _serve() -> None:
    sys.path[0] = str(Path(__file__).parents[1])
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _child(**request)
        print(json.dumps(answer), flush=True)


def _child(
    code: str, words: list[str], cwd: str, env: dict[str, str], out: str, err: str, largest_file: int | None
) -> NoReturn:
    status = 1
    try:
        for stream, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # A shell in the background leaves SIGINT ignored, and nohup SIGHUP, which a child inherits.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        sys.path.insert(0, cwd)
        sys.argv = ["arena", *words]
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        exec(compile(code, "<child>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
