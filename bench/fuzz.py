"""Random plays before the Referee and before independent books, row by row, until they disagree.

python -m bench fuzz [--rows N] [--seed S] [--play P] [--planted]

N charged rows (a million unless given) in plays of up to 96 games each, of all norms, goals, objectives,
feedbacks, quantisations, accounts and memories, with random, declining, refusing and banning defenders,
scores that hold NaN or infinities or are all equal, and malformed moves in between. Compared are answers,
standings, the log, marks, verdicts, notes, distances and final images. Prints what happened; at the first
difference, what it is and in which play (`--play P` repeats that one), and ends with status 1.

--planted: plants one bug after the other (bench/books/bugs.py) and prints after how many rows it is found;
status 1 if one is not found in N rows.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

import torch

from bench.books.both import Both, Difference
from bench.books.bugs import BUGS, Bug
from bench.books.plays import random_play

EVERY = 50_000
"""Rows after which the tally so far is printed."""


class Found(Exception):
    """A play that went otherwise than the rules say: its number, the rows charged before, and how."""

    def __init__(self, play: int, rows: int, error: Exception) -> None:
        kind = "" if isinstance(error, Difference) else f"{type(error).__name__}: "
        super().__init__(f"play {play}, after {rows} rows: {kind}{error}")
        self.play, self.rows = play, rows


def plays(rows: int, seed: int, first: int = 0) -> Iterator[Counter[str]]:
    """Play until `rows` rows were charged; the tally after each play.

    Raises:
        Found: at the first play that the Referee and the rules tell otherwise.
    """
    tally: Counter[str] = Counter()
    for number in itertools.count(first):
        if tally["rows"] >= rows:
            return
        try:
            tally += Both(random_play(Random(f"{seed}:{number}"))).run()
        except Exception as error:  # a bug may show as any
            raise Found(number, tally["rows"], error) from error
        yield tally


def rows_until_found(bug: Bug, rows: int, seed: int) -> int | None:
    """How many rows were charged before the play that finds a planted bug; None: not within `rows`."""
    with bug():
        try:
            for _ in plays(rows, seed):
                pass
        except Found as found:
            return found.rows
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--play", type=int)
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.planted:
        sys.exit(_plant(options.rows, options.seed))
    rows, first = (options.rows, 0) if options.play is None else (1, options.play)
    sys.exit(_fuzz(rows, options.seed, first))


def _fuzz(rows: int, seed: int, first: int) -> int:
    begun, told, tally = time.perf_counter(), EVERY, Counter[str]()
    try:
        for tally in plays(rows, seed, first):
            if tally["rows"] >= told:
                print(_sentence(tally, time.perf_counter() - begun), flush=True)
                told += EVERY
    except Found as found:
        print(f"the Referee and the rules differ in {found}")
        return 1
    print(_sentence(tally, time.perf_counter() - begun))
    for what, count in sorted(tally.items()):
        print(f"{count:12,}  {what}")
    return 0


def _sentence(tally: Counter[str], seconds: float) -> str:
    played = f"{tally['rows']:,} rows in {tally['games']:,} games of {tally['plays']:,} plays"
    won = f"{tally['hits']:,} hits, {tally['won by any']:,} games won"
    return f"{played}, {won}, no difference; {tally['rows'] / seconds:,.0f} rows/s"


def _plant(rows: int, seed: int) -> int:
    missed = 0
    for bug in BUGS:
        found = rows_until_found(bug, rows, seed)
        missed += found is None
        said = f"NOT FOUND in {rows:,} rows" if found is None else f"found after {found:,} rows"
        print(f"{bug.__name__.replace('_', ' ')}: {said}", flush=True)
    return int(missed > 0)
