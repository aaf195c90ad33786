"""Loads the scenario files that commands name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.markup import escape

from arena.cli.console import CommandError, err, out, say_json
from arena.messages import near, quoted
from arena.scenario.files import Scenario, find_scenario, load_scenario, packaged_scenarios
from arena.scenario.lineups import UNCHANGED, Changes
from arena.scenario.seeds import PUBLIC, Seeds


def read_scenario(
    file: str, size: str | None = None, changes: Changes = UNCHANGED, seeds: Seeds = PUBLIC
) -> Scenario:
    """A scenario, in its default or another size, with its lists of agents changed, and draws that come from
    these seeds. Its folder may hold agents and networks; installed modules win over them."""
    sys.path.append(str(find_scenario(file).absolute().parent))
    return load_scenario(file, size, changes, seeds)


def check_trusted(trusted: Sequence[str], networks: Iterable[str]) -> None:
    """CommandError for a function that is trusted and that no classifier names: a misspelt one, say."""
    named = {network for network in networks if ":" in network}
    for name in trusted:
        if name not in named:
            raise CommandError(f"--trust: no classifier here is {quoted(name)}; {near(name, named)}")


def scenarios_command(as_json: bool) -> int:
    """List the packaged scenarios; returns the exit status."""
    titles = packaged_scenarios()
    if as_json:
        say_json([{"name": name, "title": title} for name, title in titles.items()])
    else:
        _list(titles)
    return 0


def no_file() -> int:
    """What `arena play` without a file says; returns the exit status."""
    out.print("[bold]packaged scenarios[/]")
    _list(packaged_scenarios())
    err.print(
        "name one of them, or a file of your own: arena play quickstart, arena play my_scenario.toml",
        highlight=False,
        soft_wrap=True,
    )
    return 2


def _list(titles: dict[str, str]) -> None:
    width = max(map(len, titles))
    for name, title in titles.items():
        out.print(f"  {escape(f'{name:<{width}}')} {escape(title)}", highlight=False, soft_wrap=True)
