"""Loads the scenario files that commands name."""

from __future__ import annotations

import sys

from arena.scenario.files import Scenario, find_scenario, load_scenario


def read_scenario(file: str, size: str | None = None) -> Scenario:
    """A scenario, in its default or another size. Its folder may hold agents and networks; installed modules
    win over them."""
    sys.path.append(str(find_scenario(file).absolute().parent))
    return load_scenario(file, size)
