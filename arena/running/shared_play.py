"""Several processes that play one run share its shards, and wait for each other's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from arena.progress import remark, telling
from arena.running.run_log import RunLog
from arena.running.shard_work import LoggedMatch, ProgressListener, ShardWork
from arena.running.work import Players

PAUSE = 0.5
"""Seconds after which a process that waits for others looks again."""


class SharedPlay:
    """Plays the shards that no other living process plays, and those that one leaves unfinished."""

    def __init__(self, log: RunLog, watcher: ProgressListener, players: Players) -> None:
        self._log, self._watcher, self._players = log, watcher, players
        self._left: list[ShardWork] = []

    def play(self, wanted: Sequence[ShardWork]) -> None:
        """Play what is free of these shards. Those that others are playing are put aside."""
        left = []
        for match, works in _by_match(wanted):
            finished = self._log.finished_shards(match.id)
            if all(work.place in finished for work in works):
                match.begin(self._watcher)
            for work in works:
                if work.place in finished:
                    self._watcher.ended(work.games, True)
                else:
                    left.append(work)
        self._play_free(left)

    def _play_free(self, wanted: Sequence[ShardWork]) -> None:
        free = []
        for match, works in _by_match(wanted):
            others = self._log.in_play(match.id)
            free += [work for work in works if work.place not in others]
            self._left += [work for work in works if work.place in others]
        for work, played in self._players.play(free):
            assert isinstance(work, ShardWork)
            if played:
                self._watcher.ended(work.games, False)
            else:
                self._left.append(work)

    def play_what_is_left(self) -> None:
        """Wait until what was put aside is finished, and play what those who played it left."""
        said = False
        while self._left:
            self._look_again()
            players = [self._log.in_play(match.id) for match, _ in _by_match(self._left)]
            if any(players) and not said:
                said = True
                remark(waiting(players))
            if any(players):
                with telling("waiting for other processes"):
                    time.sleep(PAUSE)

    def _look_again(self) -> None:
        aside, self._left = self._left, []
        left = []
        for match, works in _by_match(aside):
            finished = self._log.finished_shards(match.id)
            for work in works:
                if work.place in finished:
                    self._watcher.ended_elsewhere(work.games)
                else:
                    left.append(work)
        self._play_free(left)


def _by_match(works: Iterable[ShardWork]) -> list[tuple[LoggedMatch, list[ShardWork]]]:
    """Shards with their matches, in the order given."""
    found: dict[int, tuple[LoggedMatch, list[ShardWork]]] = {}
    for work in works:
        found.setdefault(work.of.id, (work.of, []))[1].append(work)
    return list(found.values())


def waiting(players: Sequence[Mapping[tuple[int, int], str]]) -> str:
    """A sentence on who plays the shards that are left, told match by match."""
    shards = sum(map(len, players))
    who = sorted({name for match in players for name in match.values()})
    named = " and ".join(filter(None, (", ".join(who[:-1]), who[-1])))
    plays, it = ("plays", "it") if len(who) == 1 else ("play", "them")
    what = "1 shard" if shards == 1 else f"{shards} shards"
    return f"{named} {plays} what is left of this run, {what}; waiting for {it}"
