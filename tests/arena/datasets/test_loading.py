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


@pytest.mark.parametrize("digits", [12, 40, 64])
def test_a_pinned_data_set_is_the_one_that_was_meant(digits: int) -> None:
    sha = load_dataset("digits").sha
    for pin in (sha[:digits], sha[:digits].upper()):
        assert load_dataset(DatasetSpec(name="digits", sha=pin)).sha == sha
    other = ("0" if sha[digits - 1] != "0" else "1").rjust(digits, "0")
    with pytest.raises(DatasetError) as caught:
        load_dataset(DatasetSpec(name="digits", sha=other))
    told = f'data set "digits": found SHA-256 {sha[:digits]}, wanted {other}; other images, labels or splits '
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("pin", ["", "6dcca8a926b", "6dcca8a926bz", "0" * 65, "0x6dcca8a926b6"])
def test_a_pin_is_at_least_twelve_hexadecimal_digits(pin: str) -> None:
    with pytest.raises(ValidationError, match="must be 12 to 64 hexadecimal digits, the first of a SHA-256"):
        DatasetSpec(name="digits", sha=pin)


def test_a_changed_file_is_told_by_its_pin(tmp_path: Path) -> None:
    x, y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    spec = DatasetSpec(name="npz", path=str(tmp_path / "a.npz"))
    pinned = spec.model_copy(update={"sha": load_dataset(spec).sha})
    load_dataset(pinned)
    x[3, 2, 1] = 1
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(
        DatasetError, match=r'data set "npz": found SHA-256 [0-9a-f]{64}, wanted [0-9a-f]{64}; other'
    ):
        load_dataset(pinned)
