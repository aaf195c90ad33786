"""The results of a run for readers: tables on the terminal, and one HTML file (docs/design.md).

`arena.report.html` writes the file; it is imported where it is needed, as matplotlib takes its time.
"""

from arena.report.summary import read_run
from arena.report.terminal import print_results

__all__ = ["print_results", "read_run"]
