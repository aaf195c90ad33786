"""`arena play`, killed again and again at random moments: what is left of its log, and what it becomes.

python -m bench kills [--kills 100] [--where sqlite|postgresql|both] [--workers N] [--seed N]
    [--no-kill-server]

After each kill the log must be sound, show nothing of unfinished shards and have lost no finished one; once
the same command has ended by itself, the log must hold what that of an undisturbed run holds, bit for bit in
all but ids, times and measured costs. On PostgreSQL every tenth kill is of the server, or of its connections.
With `--workers` the runs play in worker processes, and every third kill or so is of one of these; none may
live on without its run, and the logs must hold what that of one undisturbed process holds.
Exits with 1 if anything differed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena.interruptions import heeding
from arena.running.crew import TRIES
from bench.kill_scenario import AGENTS, SCENARIO
from bench.logs import Book, Seen
from bench.servers import NoServer, Server
from bench.worker_processes import left_behind, workers_of

ROOT = Path(__file__).parents[1]
COMMAND = "from arena.cli.app import main; main()"
FRESH_EVERY = 10
"""Every so many starts are of a process that loads everything anew; the others are forked."""
SERVER_EVERY = 10
WORKERS_OF = 0.6
"""Of which share of the runs workers are killed, before the run itself is."""
MODES = {"loading": 2, "begun": 4, "ended": 4}
"""When to kill, and how often so: before the first shard, while one is played, about when one ends."""
AHEAD = 0.25
"""Up to which part of all shards a start may finish before it is killed."""
PATIENCE = 40.0
"""How many times what an undisturbed run takes may a start take, before it counts as stuck."""


@dataclass
class Tally:
    """What came of the kills on one kind of database."""

    fell: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    logs: int = 0
    lost: int = 0
    orphans: int = 0
    differences: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        return self.fell.total()

    @property
    def clean(self) -> bool:
        return not (self.lost or self.orphans or self.differences or self.refused or self.left)


class Whole:
    """`arena play` in a process that loads everything itself, with what `Child` shows of one."""

    def __init__(self, words: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self.out, self.err = folder / "fresh.out", folder / "fresh.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            command = [sys.executable, "-c", COMMAND, *words]
            self.process = subprocess.Popen(command, stdout=out, stderr=err, cwd=folder, env=env)
        self.poll, self.send_signal, self.pid = self.process.poll, self.process.send_signal, self.process.pid

    @property
    def errors(self) -> str:
        return self.err.read_text()


class Rounds:
    """Kills on one kind of database.

    Args:
        folder: with the scenario, the agents and all logs; the processes work there.
        workers: of each run; 0: it plays in its own process.
        children: of tests/children.py.
        server: None for SQLite.
    """

    def __init__(
        self,
        folder: Path,
        children: Any,
        server: Server | None,
        seed: int,
        kill_server: bool,
        workers: int = 0,
    ) -> None:
        self.folder, self.children, self.server = folder, children, server
        self.kill_server = kill_server and server is not None
        self.chance = random.Random(f"{seed} {server is not None}")
        self.tally, self.starts = Tally(), 0
        self.duration, self.loading, self.shards = 120.0, 0.0, 1  # until they are known
        self.workers = 0
        self.whole = self._undisturbed()
        if workers:
            self.workers = workers
            if self._undisturbed() != self.whole:
                self.tally.differences.append("an undisturbed run with workers differs")

    def play(self, kills: int) -> Tally:
        """Kill so often, over as many logs as it takes, and let the last one be finished."""
        began = time.monotonic()
        try:
            while self.tally.kills < kills and len(self.tally.refused) < 20:
                self._one_log(kills)
                print(f"  {self.tally.kills} kills, {self.tally.logs} logs", flush=True)
        except KeyboardInterrupt as interrupted:
            print(f"  interrupted {interrupted}; this is what there is", flush=True)
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _undisturbed(self) -> dict[str, str]:
        """What the log of an undisturbed run holds."""
        where = str(self.folder / f"whole-{self.workers}.db")
        self.loading = 0.0
        process, began = self._start(where, fresh=False), time.monotonic()
        book = Book(where)
        while process.poll() is None:
            if not self.loading and book.counts() != (0, 0):
                self.loading = time.monotonic() - began
            time.sleep(0.005)
        if process.poll() != 0:
            raise RuntimeError(f"the undisturbed run ended with {process.poll()}: {process.errors}")
        self.duration, self.shards = time.monotonic() - began, book.counts()[0]
        print(f"an undisturbed run: {self.shards} shards in {self.duration:.1f} s", flush=True)
        return book.contents()

    def _one_log(self, kills: int) -> None:
        number = self.tally.logs
        where = str(self.folder / f"killed-{number}.db") if self.server is None else self.server.url()
        book, seen = Book(where), Seen({}, set(), [])
        while True:
            fresh = self.starts % FRESH_EVERY == FRESH_EVERY - 1
            process = self._start(where, fresh)
            self.tally.restarts += bool(seen.finished or seen.unfinished)
            polled = self._kill_workers(kills, process, book)
            if self.tally.kills < kills:
                mode = self._mode()
                polled = polled or mode in ("begun", "ended")
                self._until(mode, process, book, fresh)
                if self._killed(mode, process):
                    seen = self._after(mode, seen, book.look())
                    continue
            self._wait(process)
            beside = [] if polled else [path.name for path in self.folder.glob(f"killed-{number}.db-*")]
            if process.poll() != 0:
                self.tally.refused.append(f"status {process.poll()}: {process.errors[-2000:]}")
                if len(self.tally.refused) >= 20:
                    return
                continue
            self.tally.left.update(name.rpartition("-")[2] for name in beside)
            self._compare(seen, book)
            self.tally.logs += 1
            return

    def _start(self, where: str, fresh: bool) -> Any:
        cache = self.folder / f"cache-{self.tally.logs}-{'killed' if 'whole' not in where else 'whole'}"
        own = {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        words = ["play", "kill.toml", "--log", where, "--device", "cpu"]
        words += ["--workers", str(self.workers)] if self.workers else []
        self.starts += 1
        if fresh:
            path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
            return Whole(words, self.folder, {**os.environ, **own, "PYTHONPATH": path})
        return self.children.start(f"import os; os.chdir({str(self.folder)!r})\n{COMMAND}", *words, **own)

    def _mode(self) -> str:
        if self.kill_server and self.tally.kills % SERVER_EVERY == SERVER_EVERY - 1:
            return self.chance.choice(["server", "connections"])
        return self.chance.choices(list(MODES), list(MODES.values()))[0]

    def _until(self, mode: str, process: Any, book: Book, fresh: bool) -> None:
        """Wait for the moment to kill, or until the process has ended."""
        pause = self.chance.uniform(0, self.loading * (2 if fresh else 1))
        if mode != "loading":
            finished, newest = book.counts()
            finished += self.chance.randint(0, round(AHEAD * self.shards)) + (mode == "ended")
            self._wait(process, lambda: book.counts()[0] >= finished)
            if mode != "ended":
                self._wait(process, lambda: book.counts()[1] > newest)
            spell = (self.duration - self.loading) / self.shards
            pause = self.chance.uniform(0, 0.02 if mode == "ended" else spell)
        end = time.monotonic() + pause
        self._wait(process, lambda: time.monotonic() > end)

    def _kill_workers(self, kills: int, process: Any, book: Book) -> bool:
        """Kill up to two workers, one after the other, of most runs; whether it was tried. A third that dies
        of the same shard would be a result."""
        if not self.workers or self.chance.random() > WORKERS_OF:
            return False
        for _ in range(min(self.chance.randint(1, TRIES - 1), kills - self.tally.kills)):
            finished = book.counts()[0] + self.chance.randint(0, round(AHEAD * self.shards))
            found: list[int] = []

            def there(least: int = finished, found: list[int] = found) -> bool:
                found[:] = workers_of(process.pid)
                return bool(found) and book.counts()[0] >= least

            self._wait(process, there)
            if process.poll() is None and found:
                os.kill(self.chance.choice(found), signal.SIGKILL)
                self.tally.fell["worker"] += 1
        return True

    def _killed(self, mode: str, process: Any) -> bool:
        """Kill the process, after its server or connections if that is the mode; whether it was killed."""
        if process.poll() is None and mode in ("server", "connections"):
            assert self.server is not None
            if mode == "server":
                self.server.stop()
                time.sleep(self.chance.uniform(0, 1))
                self.server.start()
            else:
                self.server.cut()
            end = time.monotonic() + self.chance.uniform(0, self.duration / 2)
            self._wait(process, lambda: time.monotonic() > end)
            if process.poll() == 1 and "Traceback" not in process.errors:
                return True
            if process.poll() not in (None, 0):
                self.tally.refused.append(f"{mode}: status {process.poll()}: {process.errors[-2000:]}")
                return True
        if process.poll() is not None:
            return False
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGKILL)
        self._wait(process)
        self.tally.orphans += len(left_behind(workers))
        return bool(process.poll() == -signal.SIGKILL)

    def _after(self, mode: str, before: Seen, after: Seen) -> Seen:
        """Judge what a kill left."""
        if mode in ("server", "connections"):
            place = mode
        elif after.unfinished - before.unfinished:
            place = "playing"
        else:
            place = "between shards" if len(after.finished) > len(before.finished) else "loading"
        self.tally.fell[place] += 1
        self.tally.lost += sum(after.finished.get(key) != rows for key, rows in before.finished.items())
        self.tally.differences += [f"after a kill while {place}: {fault}" for fault in after.faults]
        return after

    def _compare(self, before: Seen, book: Book) -> None:
        """Judge a log whose run has ended by itself."""
        seen = book.look()
        self.tally.lost += sum(seen.finished.get(key) != rows for key, rows in before.finished.items())
        faults = [*seen.faults, *(["unfinished shards"] if seen.unfinished else [])]
        found = book.contents()
        faults += [f"{table} differ" for table, rows in self.whole.items() if found[table] != rows]
        self.tally.differences += [f"log {self.tally.logs}: {fault}" for fault in faults]

    def _wait(self, process: Any, fact: Callable[[], bool] = lambda: False) -> None:
        """Until the process has ended or `fact` holds."""
        end = time.monotonic() + PATIENCE * self.duration
        while process.poll() is None and not fact():
            if time.monotonic() > end:
                self.tally.refused.append(f"stuck: {process.errors[-2000:]}")
                process.send_signal(signal.SIGKILL)
            time.sleep(0.003)


def kill_runs(
    kills: int,
    server: Server | None,
    seed: int,
    *,
    kill_server: bool = True,
    scenario: str = SCENARIO,
    workers: int = 0,
) -> Tally:
    """Play a scenario, killed `kills` times, in a temporary folder; `server`: None for SQLite."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arena-kills-")))
        (folder / "kill.toml").write_text(scenario)
        (folder / "kill_agents.py").write_text(AGENTS)
        (folder / "processes").mkdir()
        children = _children(folder / "processes")
        stack.callback(children.close)
        return Rounds(folder, children, server, seed, kill_server, workers).play(kills)


def _children(folder: Path) -> Any:
    """`Children` of tests/children.py: processes that are forked in a moment."""
    spec = importlib.util.spec_from_file_location("arena_children", ROOT / "tests" / "children.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["arena_children"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Children(folder)


def show(name: str, tally: Tally) -> None:
    """Print what came of it, as a table of one column."""
    rows = {
        "kills": tally.kills,
        **{f"  {place}": count for place, count in sorted(tally.fell.items())},
        "starts after a kill": tally.restarts,
        "logs completed": tally.logs,
        "shards lost": tally.lost,
        "workers that lived on": tally.orphans,
        "differences": len(tally.differences),
        "starts that failed": len(tally.refused),
        "files left behind": tally.left.total(),
        "seconds": round(tally.seconds),
    }
    print(f"\n{name}")
    for what, count in rows.items():
        print(f"  {what:<24}{count:>7,}")
    for what, count in Counter(tally.differences + tally.refused).items():
        print(f"  {count} x {what}")
    for suffix, count in tally.left.items():
        print(f"  {count} x -{suffix}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--where", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-server", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    clean = True
    for name in ("sqlite", "postgresql"):
        if options.where in (name, "both"):
            with heeding(), ExitStack() as stack:
                try:
                    server = stack.enter_context(Server()) if name == "postgresql" else None
                except NoServer as reason:
                    sys.exit(str(reason))
                tally = kill_runs(
                    options.kills,
                    server,
                    options.seed,
                    kill_server=options.kill_server,
                    workers=options.workers,
                )
            show(name, tally)
            clean = clean and tally.clean
    sys.exit(not clean)


if __name__ == "__main__":
    main()
