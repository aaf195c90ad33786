"""Results in files, read back as they were."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

import arena
from arena.notebook.result import Result
from arena.notebook.results import Results
from arena.records.match_record import MatchRecord
from arena.records.reports import NoteRows


def same(one: Any, two: Any) -> None:
    """Equal to the bit, NaN included, field by field."""
    assert type(one) is type(two) or isinstance(one, np.ndarray | int | float | str)
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            same(a, b)
    elif hasattr(one, "__dataclass_fields__"):
        for f in fields(one):
            same(getattr(one, f.name), getattr(two, f.name))
    else:
        assert one == two


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))
    images = torch.rand(12, 1, 6, 6) * 0.6 + 0.2
    given = {"classifier": model, "images": images, "labels": model(images).argmax(1)}
    threat = {"epsilon": 0.15, "budget": 20, "objective": "submit", "goal": "targeted"}
    return arena.play_all(
        ["square"], ["none", {"name": "snd", "sigma": 0.1}], **given, threat=threat, at=[5], keep_rows=True
    )


def test_results_are_read_back_to_the_bit(results, tmp_path) -> None:
    path = results.save(tmp_path / "new" / "all")
    assert path == tmp_path / "new" / "all.npz"
    back = Results.load(path)
    same(list(back.values()), list(results.values()))
    assert repr(back) == repr(results)
    with np.load(path) as file:
        assert sum("originals" in name for name in file) == 1, "the images are in it once"
    with pytest.raises(ValueError, match=r"holds 2 results; arena\.Results\.load reads them"):
        Result.load(path)


def test_notes_and_runs_of_smaller_budgets_are_kept(by_hand, tmp_path) -> None:
    notes = [
        NoteRows("error", np.array([0]), np.array([4]), ["ValueError"]),
        NoteRows("p", np.array([1]), np.array([0]), [0.5]),
    ]
    short = by_hand(["budget"] * 2, {5: {}})
    whole = replace(
        by_hand(["error", "budget"], {5: {}, 10: {}}, purposes={"x": np.array([1, 2, 3, 4, 5])}),
        notes=notes,
        prefix=False,
        shorter=(short,),
    )
    path = whole.save(tmp_path)
    assert path.name == "square-against-none.npz"
    same(Result.load(path), whole)
    assert Results.load(path)["square", "none"].first_error == "ValueError"
    assert isinstance(whole.shorter[0], MatchRecord)


def test_other_files_are_no_results(tmp_path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    torch.save({"a": 1}, tmp_path / "a.pt")
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "pickled.npz", about=np.array([{}], dtype=object))
    for path in (other, tmp_path / "a.pt", tmp_path / "text.npz", tmp_path / "pickled.npz"):
        with pytest.raises(ValueError, match="holds no results that this version of the arena has saved"):
            Result.load(path)
    with pytest.raises(ValueError, match=r"cannot be read from .*missing\.npz"):
        Result.load(tmp_path / "missing.npz")
