"""The log: every query and every game, in SQL (DESIGN.md, D8).

`open_log` opens or makes one; `arena.log.questions` asks it.
"""

from arena.log.errors import LogError
from arena.log.shard_writer import Shard
from arena.log.writer import Log, open_log
from arena.records.runs import Level, MatchInfo, RunInfo, Verdict

__all__ = ["Level", "Log", "LogError", "MatchInfo", "RunInfo", "Shard", "Verdict", "open_log"]
