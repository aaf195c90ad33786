"""Several processes that play one run share its shards, and wait for each other's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from arena.progress import remark, telling
from arena.records.pieces import ShardLost
from arena.running.run_log import RunLog
from arena.scenario.jobs import ShardTask
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match

PAUSE = 0.5
"""Seconds after which a process that waits for others looks again."""


class ProgressListener(Protocol):
    """Hears how far a run is."""

    def match(self, match: Match, games: int) -> None:
        """A match of `games` games, repeats counted, begins."""

    def played(self, queries: int) -> None:
        """Queries were answered."""

    def failed(self, match: Match, games: int, said: str) -> None:
        """So many games of a match ended in `error`: an agent failed."""

    def ended(self, games: int, skipped: bool) -> None:
        """A shard of `games` games ended, or lay finished in the log."""

    def ended_elsewhere(self, games: int) -> None:
        """Another process finished a shard of `games` games meanwhile."""


class SharedPlay:
    """Plays the shards that no other living process plays, and those that one leaves unfinished.

    Args:
        play: plays a shard of the match with an id in the log; raises `ShardLost` where another process
            came first.
    """

    def __init__(
        self, log: RunLog, watcher: ProgressListener, play: Callable[[int, ShardTask, LoadedWorld], None]
    ) -> None:
        self._log, self._watcher, self._play = log, watcher, play
        self._left: list[tuple[int, LoadedWorld, Sequence[ShardTask]]] = []

    def play(self, match_id: int, world: LoadedWorld, wanted: Sequence[ShardTask]) -> None:
        """Play what is free of these shards of a match. Those that others are playing are put aside."""
        finished = self._log.finished_shards(match_id)
        for task in wanted:
            if (task.number, task.repeat) in finished:
                self._watcher.ended(_games(task), True)
        self._play_free(match_id, world, [t for t in wanted if (t.number, t.repeat) not in finished])

    def _play_free(self, match_id: int, world: LoadedWorld, wanted: Sequence[ShardTask]) -> None:
        others = self._log.in_play(match_id)
        left = []
        for task in wanted:
            if (task.number, task.repeat) in others or not self._could_play(match_id, task, world):
                left.append(task)
            else:
                self._watcher.ended(_games(task), False)
        if left:
            self._left.append((match_id, world, left))

    def _could_play(self, match_id: int, task: ShardTask, world: LoadedWorld) -> bool:
        try:
            self._play(match_id, task, world)
        except ShardLost:
            return False
        return True

    def play_what_is_left(self) -> None:
        """Wait until what was put aside is finished, and play what those who played it left."""
        said = False
        while self._left:
            self._look_again()
            players = [self._log.in_play(match_id) for match_id, *_ in self._left]
            if any(players) and not said:
                said = True
                remark(waiting(players))
            if any(players):
                with telling("waiting for other processes"):
                    time.sleep(PAUSE)

    def _look_again(self) -> None:
        aside, self._left = self._left, []
        for match_id, world, wanted in aside:
            finished = self._log.finished_shards(match_id)
            for task in wanted:
                if (task.number, task.repeat) in finished:
                    self._watcher.ended_elsewhere(_games(task))
            left = [task for task in wanted if (task.number, task.repeat) not in finished]
            self._play_free(match_id, world, left)


def _games(task: ShardTask) -> int:
    return int(task.rows.stop - task.rows.start)


def waiting(players: Sequence[Mapping[tuple[int, int], str]]) -> str:
    """A sentence on who plays the shards that are left, told match by match."""
    shards = sum(map(len, players))
    who = sorted({name for match in players for name in match.values()})
    named = " and ".join(filter(None, (", ".join(who[:-1]), who[-1])))
    plays, it = ("plays", "it") if len(who) == 1 else ("play", "them")
    what = "1 shard" if shards == 1 else f"{shards} shards"
    return f"{named} {plays} what is left of this run, {what}; waiting for {it}"
