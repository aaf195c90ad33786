from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from arena.datasets import DatasetError, DatasetSpec, load_dataset


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"name": "cifar-10"},
            'no data set "cifar-10"; did you mean "cifar10"\\? allowed: cifar10, digits, ',
        ),
        ({"name": "digits", "path": "x"}, 'data set "digits" has no key "path"; allowed: sha'),
        ({"name": "cifar10", "layout": "nhwc"}, 'data set "cifar10" has no key "layout"; allowed: path'),
        ({"name": "npz"}, 'data set "npz" needs a path'),
    ],
)
def test_bad_spec_is_told_in_one_sentence(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        load_dataset(DatasetSpec(**spec))


def test_spec_is_a_key_and_forbids_what_it_does_not_know() -> None:
    assert len({DatasetSpec(name="digits"), DatasetSpec(name="digits"), DatasetSpec(name="npz")}) == 2
    with pytest.raises(ValidationError, match="split\n"):
        DatasetSpec.model_validate({"name": "digits", "split": "test"})


def test_spec_and_name_are_the_same() -> None:
    assert load_dataset("digits").sha == load_dataset(DatasetSpec(name="digits")).sha


def test_path_may_be_absolute_or_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
    monkeypatch.chdir(tmp_path)
    relative = load_dataset(DatasetSpec(name="npz", path="a.npz"))
    assert relative.sha == load_dataset(DatasetSpec(name="npz", path=str(tmp_path / "a.npz"))).sha


def test_missing_data_set_says_where_it_was_looked_for_and_what_to_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("cifar10", [tmp_path / "given"])
    for told in ("given", "named", "cache/arena", "cifar-10-batches-bin", "test_batch.bin", "ARENA_DATA"):
        assert told in str(caught.value)
    assert "\n" not in str(caught.value)
