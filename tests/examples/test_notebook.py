"""The example's ten cells run, and leave what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib import pyplot

FILE = Path(__file__).parents[2] / "examples" / "notebook.py"


def test_the_ten_cells_play_tabulate_draw_save_and_report(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("pandas", reason='needs pip install "blackbox-arena[tables]"')
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    text = FILE.read_text(encoding="utf-8")
    small = text.replace("GAMES, BUDGET, RUNS = 100, 200,", "GAMES, BUDGET, RUNS = 5, 16,")
    assert small != text
    names: dict[str, Any] = {}
    exec(compile(small, str(FILE), "exec"), names)
    pyplot.close("all")
    assert re.findall(r"^# %% (\d+)\.", text, re.M) == [str(n) for n in range(1, 11)]
    left = {path.name for path in (tmp_path / "runs").iterdir()}
    assert {"notebook.db", "notebook.html", "notebook.npz", "notebook.png"} <= left
    printed = capsys.readouterr().out
    assert repr(names["results"]) in printed
    assert repr(names["again"]) == repr(names["results"])
    assert len(names["results"]) == 6
    assert len(names["games"]) == 5
