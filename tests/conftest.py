"""What all tests share: one thread, hypothesis without deadlines, the helpers of tests/arena, and
real data where they are at hand.

pytest --hypothesis-profile=full       # twice the examples of each property; make test-all
pytest --hypothesis-profile=explore    # other examples every time, and many more of them
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start, too; read when torch is imported

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(
    prefix="arena-tests-"
)  # no test reads or fills the user's cache

ROOT = Path(__file__).parents[1]

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
_SAME = settings(deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("suite", _SAME, max_examples=50)
settings.register_profile("full", _SAME, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=_SLOW)
settings.load_profile("suite")


def _load(name: str, folder: str = "arena") -> ModuleType:
    """The module tests/<folder>/<name>.py; pytest's import mode leaves no path to import it by."""
    full = f"arena_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """tests/arena/worlds.py: exact classifiers, deals, defenders and attackers."""
    return _load("worlds")


@pytest.fixture(scope="session")
def replays() -> ModuleType:
    """tests/arena/replays.py: small runs in logs, and how to tamper with these."""
    return _load("replays")


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Processes to interrupt, kill and starve: `Children` of tests/children.py."""
    children = _load("children", ".").Children(tmp_path_factory.mktemp("children"))
    yield children
    children.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: the environment's ARENA_SHARED, or shared/data in or beside the checkout."""
    named = os.environ.get("ARENA_SHARED")
    places = [Path(named)] if named else [ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    for place in places:
        if (place / "weights").is_dir():
            return place
    pytest.skip(f"no real data in {' or '.join(map(str, places))}; ARENA_SHARED may name their folder")
