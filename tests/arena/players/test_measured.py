from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from arena.players.measured import FILE, Measured, measured_alone, measured_beside, measurements

ONE = Measured(
    "digits",
    ("snd",),
    "python -m bench defenders",
    "abc1234",
    "cpu",
    images=10,
    accuracy=(0.9, 0.6, 1.0),
    time=(math.nan, 0.0, math.inf),
    games=3,
    square=(1 / 3, 0.1, 0.9),
    hop_skip_jump=(math.inf, 0.5, math.inf),
    sessions=4,
    benign={"single": (0.0, 0.0, 0.49), "lime": (0.25, 0.05, 0.7)},
)


def test_a_line_is_read_back_to_the_bit_and_is_json() -> None:
    (found,) = measurements(ONE.line() + "\n")
    assert repr(found) == repr(ONE)  # NaN is not equal to itself
    assert json.loads(ONE.line(), parse_constant=pytest.fail)["hop_skip_jump"] == ["inf", 0.5, "inf"]


@pytest.mark.parametrize("line", ["{", "[]", '{"world": "digits"}', ONE.line().replace("[0.9,", '["x",')])
def test_another_line_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match=f"{FILE}, line 2"):
        measurements(f"{ONE.line()}\n{line}\n")


@pytest.mark.parametrize("place", ["", "defenders"])
def test_a_package_ships_the_measurements_of_its_defenders(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"measured_package_{place}"
    folder = tmp_path / package / "defenders"
    folder.mkdir(parents=True)
    for inside in (folder, folder.parent):
        (inside / "__init__.py").write_text("")
    (folder / "mine.py").write_text("class Mine: ...\n")
    other = replace(ONE, stack=("rnd", "snd"))
    (tmp_path / package / place / FILE).write_text(f"{ONE.line()}\n{other.line()}\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module(f"{package}.defenders.mine").Mine
    assert [one.stack for one in measured_beside(mine)] == [("snd",), ("rnd", "snd")]
    assert [one.stack for one in measured_alone(mine, "snd")] == [("snd",)]
    assert measured_alone(mine, "other") == []


def test_without_a_package_or_a_file_nothing_was_measured() -> None:
    assert measured_beside(Path) == []
    assert measured_beside(type("Here", (), {"__module__": "loose_module"})) == []
    assert "loose_module" not in sys.modules
