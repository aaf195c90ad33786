"""Nothing that a file, a log or an agent says controls the terminal."""

from __future__ import annotations

import io

import pytest
from rich.markup import escape
from rich.table import Table

from arena.cli.console import Terminal
from arena.report.terminal import wide_enough

TEXT = "a\x1b[31mb\x9b2Jc\x07d\re [bold]f[/]"


@pytest.mark.parametrize("in_a_table", [False, True])
def test_escapes_are_blanks_and_markup_is_text(in_a_table: bool) -> None:
    table = Table(escape(TEXT), title=escape(TEXT))
    table.add_row(escape(TEXT))
    written = io.StringIO()
    terminal = Terminal(file=written, width=200, force_terminal=False)
    terminal.print(table if in_a_table else escape(TEXT), highlight=False)
    said = written.getvalue()
    assert "a [31mb 2Jc d e [bold]f[/]" in said
    assert said.replace("\n", "").isprintable()


def test_a_console_made_wide_for_a_pipe_shows_no_escapes_either() -> None:
    written = io.StringIO()
    wide_enough(Terminal(file=written, width=20, force_terminal=False)).print(escape(TEXT), highlight=False)
    assert written.getvalue() == "a [31mb 2Jc d e [bold]f[/]\n"


def test_lines_and_tabs_are_kept() -> None:
    written = io.StringIO()
    Terminal(file=written, width=80).print("a\nb", highlight=False)
    assert written.getvalue() == "a\nb\n"
