"""How logs grow: the time, memory and room of writing them and of asking them, by the number of queries.

python -m bench growth [--rows 100000 1000000 10000000] [--server] [--times 3] [--folder FOLDER]

Made-up logs of 40 matches are written through the recorder that games are written through; everything else is
a process of its own, from its start to its end, of which the fastest of some is told. `--server` adds
PostgreSQL, on a server of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.tables import table

ROWS = (100_000, 1_000_000, 10_000_000)
ASKED = ("nothing", "matrices")
"""What is asked from Python: `nothing` opens the log and closes it."""
COMMANDS = {
    "runs": ["runs", "LOG"],
    "report": ["report", "LOG", "--out", "FOLDER/report.html"],
    "board": ["board", "LOG", "--out", "FOLDER/board.html"],
    "audit": ["audit", "LOG"],
    "export": ["export", "LOG", "--format", "parquet", "--force", "--out", "FOLDER/export"],
}
"""What is asked by commands, by name."""
ONCE = ("export",)


def ask(name: str, where: str) -> None:
    """In a process of its own: one question."""
    from arena.league.matrices import matrices, read_sources
    from arena.log import open_log

    with open_log(where, create=False) as log:
        if name == "matrices":
            matrices(read_sources(log))


def write(where: str, rows: int) -> None:
    """In a process of its own: a log of so many queries, and what that took, as JSON."""
    from arena.log import open_log
    from bench.made_logs import write_log

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_log(where) as log:
        told = write_log(log, rows)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**told, "MiB": after / 1024, "MiB before": before / 1024}))


def spent(command: list[str]) -> tuple[float, float, float, str]:
    """The seconds, those of the processor, and the peak MiB of a process, and what it printed.

    This process must stay small: a new one's peak counts from that of its parent.
    """
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {process.returncode}: {said[-1000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said


def measure(where: str, rows: int, folder: Path, times: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """Writes a log, and asks it."""
    python = [sys.executable, "-m", "bench", "growth"]
    if "://" not in where:
        Path(where).unlink(missing_ok=True)
    *_, said = spent([*python, "--write", where, str(rows)])
    told = json.loads(said.splitlines()[-1])
    rows = told["rows"]
    yield {
        "what": "write",
        "rows": rows,
        "seconds": told["seconds"],
        "CPU s": told["CPU s"],
        "peak MiB": told["MiB"],
        "rows/s": round(rows / told["seconds"]),
        **room(where, rows),
    }
    for name in only:
        command = [*python, "--ask", name, where]
        if name in COMMANDS:
            words = [w.replace("LOG", where).replace("FOLDER", str(folder)) for w in COMMANDS[name]]
            command = [sys.executable, "-c", "from arena.cli.app import main; main()", *words]
        tries = [spent(command) for _ in range(1 if name in ONCE else times)]
        seconds, processor, peak, _ = zip(*tries, strict=True)
        told = {"seconds": min(seconds), "CPU s": min(processor), "peak MiB": max(peak)}
        yield {"what": name, "rows": rows, **told}


def room(where: str, rows: int) -> dict[str, Any]:
    """The size of a log on disk."""
    if "://" not in where:
        size = Path(where).stat().st_size
        return {"MB": round(size / 1e6), "bytes/row": round(size / rows)}
    import psycopg

    with psycopg.connect(where.replace("+psycopg", "")) as connection:
        size = connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r'"
            " AND c.relnamespace = current_schema()::regnamespace"
        ).fetchone()
    assert size is not None
    return {"MB": round(int(size[0]) / 1e6), "bytes/row": round(int(size[0]) / rows)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*ASKED, *COMMANDS]
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--server", action="store_true", help="PostgreSQL, too")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where logs and files go and stay")
    parser.add_argument("--only", nargs="*", default=every, choices=every, help="what is asked")
    parser.add_argument("--write", nargs=2, metavar=("LOG", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, metavar=("NAME", "LOG"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(given.write[0], int(given.write[1]))
    elif given.ask:
        ask(*given.ask)
    else:
        grow(given.rows, given.server, given.times, given.folder, given.only)


def grow(sizes: list[int], server: bool, times: int, place: Path | None, only: list[str]) -> None:
    """Measures all, and prints each figure as it is known, and a table at the end."""
    found = []
    with ExitStack() as stack:
        folder = place or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        places = {"SQLite": lambda rows: str(folder / f"{rows}.db")}
        if server:
            from bench.servers import Server

            running = stack.enter_context(Server(settings=""))
            places["PostgreSQL"] = lambda _: running.url()
        for rows in sizes:
            for database, where in places.items():
                for line in measure(where(rows), rows, folder, times, only):
                    found.append({"database": database, **line})
                    print(json.dumps(found[-1]), flush=True)
    order = ["write", *ASKED, *COMMANDS]
    print(table(sorted(found, key=lambda line: (line["database"], order.index(line["what"])))))


if __name__ == "__main__":
    main()
