"""The log: every query and every game, in SQL (docs/design.md, D8).

`open_log` opens or creates one; `arena.log.questions` queries it.
"""

from arena.log.errors import LogError
from arena.log.writer import Log, open_log

__all__ = ["Log", "LogError", "open_log"]
