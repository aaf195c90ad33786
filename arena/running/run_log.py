"""Where a run is recorded, as the runner needs it: no database is in sight."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from arena.evaluation.clean_utility import Utility
from arena.records.pieces import LogLevel, Recorder
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Ints


class RunLog(Protocol):
    """Keeps runs, the matches that they consist of, and the shards of these. `arena.log.Log` is one."""

    def find_run(self, fingerprint: str) -> tuple[int, bool] | None:
        """The newest run with this fingerprint: its id, and whether it has ended."""

    def begin_run(self, info: RunInfo) -> int:
        """Record a new run; its id."""

    def end_run(self, run_id: int) -> None:
        """Record that the run has ended."""

    def begin_match(self, run_id: int, info: MatchInfo, fresh: bool = False) -> int:
        """Make a match one of the run's, found by its fingerprint unless `fresh`, or begun; its id."""

    def record_words(self, run_id: int, number: int, words: Mapping[str, Any]) -> None:
        """Record how a run shows one of its matches, in place of what was recorded."""

    def find_utility(self, match_id: int, images: int) -> Utility | None:
        """What the match's stack is worth on so many clean images; None if nobody recorded it."""

    def record_utility(self, match_id: int, utility: Utility) -> None:
        """Record it."""

    def finished_shards(self, match_id: int) -> Mapping[tuple[int, int], str]:
        """The fingerprints of the match's finished shards by (number, repeat)."""

    def discard_unfinished(self, match_id: int) -> int:
        """Remove what unfinished shards of the match left behind; how many there were."""

    def shard(
        self,
        match_id: int,
        number: int,
        repeat: int,
        fingerprint: str,
        keys: Ints,
        level: LogLevel = "queries",
    ) -> AbstractContextManager[Recorder]:
        """A recorder for a shard: finished, all at once, when the `with` statement ends well."""
