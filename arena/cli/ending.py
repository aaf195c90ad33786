"""How commands end that a signal, foreign code or a closed pipe ends: in one place for all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from arena.cli.console import OutputLost, err, writing
from arena.interruptions import Interrupted, caught, heeding, promise, promised
from arena.messages import UserError, brief, quoted, raised_in


class Commands(TyperGroup):
    """The commands, which heed signals and end with a sentence and a status that is true."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command as typer does; once a signal came, the status is that signal's."""
        with heeding():
            promise(lambda: "the same command starts over")
            try:
                return super().main(*args, **options)
            except SystemExit as ended:
                if (number := caught()) is not None:  # it came while words were read, or a status found
                    ended.code = Interrupted(number).status
                raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and let none of the code that it runs decide how it ends."""
        with _plain_end():
            result = super().invoke(ctx)
            with writing():
                sys.stdout.flush()  # here a closed pipe can still be told from an error
            return result


@contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input ends the command with one sentence; anything else keeps its traceback."""
    try:
        yield
    except (UserError, FileNotFoundError, PermissionError) as error:
        sentences = str(error) if isinstance(error, UserError) else brief(_of_a_file(error))
        err.print(f"[red]error:[/] {escape(sentences)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def _of_a_file(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)} cannot be opened: {error.strerror}"


@contextmanager
def _plain_end() -> Iterator[None]:
    """A signal, and a SystemExit or KeyboardInterrupt of foreign code, end the command with one sentence."""
    try:
        yield
        _end_if_interrupted()
    except BaseException as error:
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            raise  # rich's way to end once nobody reads any more
        _end_if_interrupted()
        if not isinstance(error, SystemExit | KeyboardInterrupt | OutputLost):
            raise
        said = _lost(error) if isinstance(error, OutputLost) else _foreign(error)
        err.print(f"[red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _end_if_interrupted() -> None:
    """If a signal came, whatever became of its exception: say what is safe, and end with its status."""
    if (number := caught()) is None:
        return
    interrupted = Interrupted(number)
    by = "" if interrupted.status == 130 else f" ({interrupted})"
    err.print(f"[yellow]interrupted[/]{by}: {escape(promised())}", highlight=False, soft_wrap=True)
    raise typer.Exit(interrupted.status) from None


def _lost(error: OutputLost) -> str:
    return f"what this command says cannot be written ({error}); {promised()}"


def _foreign(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        called = f"sys.exit({brief(quoted(error.code))}){raised_in(error)}"
        return f"code that this command ran called {called}, which ends no command"
    return f"code that this command ran raised KeyboardInterrupt{raised_in(error)}, and no signal came"
