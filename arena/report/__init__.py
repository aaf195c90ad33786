"""The results of a run for readers: tables on the terminal, and one HTML file (docs/design.md)."""

from arena.report.html import write_report
from arena.report.summary import read_run
from arena.report.terminal import print_results

__all__ = ["print_results", "read_run", "write_report"]
