"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LogPlace = Annotated[str, typer.Argument(metavar="LOG", help="A log: a path or a database URL.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(help="A function, module:function, that the file may call as a network; may be repeated."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SecretSeed = Annotated[
    Path | None, typer.Option(help="Of a ranked run: the file of the secret that it was played with.")
]
