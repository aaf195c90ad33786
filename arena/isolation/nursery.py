"""The process that agents' processes are forked from: a fresh one, in which torch and the interfaces of
players are imported and nothing else ever was.

    request  {"readable": [...], "listable": [...], "memory": bytes, "path": [...], "own": {...}}
             and two descriptors: of its channel, and of what it prints
    reply    the number of the process
    request  {"end": number}
    reply    [how it ended, as os.waitstatus_to_exitcode says it]

It ends, and with it all that it forked, when the process that it serves closes the line or is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from arena.isolation import sandbox
from arena.isolation.inmates import talk
from arena.messages import failure
from arena.players import registry

LONGEST = 2**20
"""Bytes of a request."""
CHANNEL = 3
"""The descriptor over which an agent's process talks."""
_LOOKING = 1.0


def serve(line: socket.socket, parent: int) -> None:
    """Answer requests until the line is closed or `parent` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _warm_up()
    line.send(b"ready")
    alive: set[int] = set()
    try:
        while os.getppid() == parent:
            if not select.select([line], [], [], _LOOKING)[0]:
                continue
            content, descriptors = _received(line)
            if not content:
                return
            wanted = json.loads(content)
            if "end" in wanted:
                alive.remove(wanted["end"])
                line.send(json.dumps([_ended(wanted["end"])]).encode())
            else:
                alive.add(number := _forked(wanted, descriptors, line))
                line.send(json.dumps(number).encode())
    finally:
        for number in alive:
            os.kill(number, signal.SIGKILL)
        os._exit(0)


def _received(line: socket.socket) -> tuple[bytes, list[int]]:
    content, descriptors, *_ = socket.recv_fds(line, LONGEST, 2)
    return content, descriptors


def _ended(number: int) -> int:
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


def _forked(wanted: dict[str, Any], descriptors: Sequence[int], line: socket.socket) -> int:
    parent = os.getpid()
    number = os.fork()
    if number:
        for descriptor in descriptors:
            os.close(descriptor)
        return number
    status = 1
    try:
        line.detach()
        _enter(wanted, descriptors, parent)
        talk(CHANNEL)
        status = 0
    except BaseException as error:  # a descriptor that is closed; a sandbox that cannot be
        os.write(2, failure(error).encode(errors="replace"))
    finally:
        os._exit(status)


def _enter(wanted: dict[str, Any], descriptors: Sequence[int], parent: int) -> None:
    """Leave behind what is not the agent's, and lock the process in."""
    sandbox.dies_with(parent)
    os.setsid()
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    channel, output = descriptors
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, place in ((nothing, 0), (output, 1), (output, 2), (channel, CHANNEL)):
        os.dup2(source, place)
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    os.environ.clear()
    tempfile.tempdir = "/nowhere"  # which is looked for as modules are imported, though nothing is written
    sys.path[:] = wanted["path"]
    sys.path_importer_cache.clear()
    sys.meta_path.insert(0, _Own(wanted["own"]))
    sandbox.close(wanted["readable"], wanted["listable"], wanted["memory"])


class _Own:
    """Finds an agent's own top-level modules where they are known to lie: the folders around are closed."""

    def __init__(self, places: dict[str, list[str]]) -> None:
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name not in self._places:
            return None
        places = self._places[name]
        if places[0].endswith((".py", ".so", ".pyc")):
            return spec_from_file_location(name, places[0])
        for place in places:
            if (file := Path(place) / "__init__.py").is_file():
                return spec_from_file_location(name, file, submodule_search_locations=places)
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = places
        return spec


def _warm_up() -> None:
    """Have torch look at the processor and load its kernels, once for all agents.

    No thread is begun, and nothing is differentiated: torch could not do it again in what is forked then.
    """
    torch.set_num_threads(1)
    registry.names("attacker")
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.nn.functional.conv2d(image, torch.ones(4, 3, 3, 3)).flatten(1).matmul(torch.ones(144, 4))
    torch.fft.rfft2(image)
    torch.linalg.qr(image[0, 0])


def main() -> None:
    """Serve over the descriptor that the first argument names; the second is the number of the parent."""
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    main()
