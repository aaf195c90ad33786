from __future__ import annotations

from pathlib import Path

import pytest

from arena.datasets.folders import find, search_path


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ARENA_DATA", raising=False)


def test_search_path_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, cache = tmp_path / "here", tmp_path / "home" / ".cache" / "arena"
    assert search_path() == [here, cache]
    assert search_path([Path("sub"), Path("~/data"), Path()]) == [
        here / "sub",
        tmp_path / "home" / "data",
        here,
        cache,
    ]
    monkeypatch.setenv("ARENA_DATA", "~/named")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert search_path() == [here, tmp_path / "home" / "named", tmp_path / "xdg" / "arena"]


def test_earlier_folders_and_names_win(tmp_path: Path) -> None:
    def found(*names: str) -> Path:
        return find("thing", names, [tmp_path / "a", tmp_path / "b"], "put it there")

    with pytest.raises(FileNotFoundError, match=r"^thing: no x or y in any of .*/a, .*/b, .*; put it there$"):
        found("x", "y")
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").touch()
        assert found("x", "y") == tmp_path / folder / "x"
    (tmp_path / "a" / "y").touch()
    assert found("y", "x") == tmp_path / "a" / "y"
    assert found(str(tmp_path / "b" / "x")) == tmp_path / "b" / "x"
    with pytest.raises(FileNotFoundError, match=r"^thing: there is no /nowhere/x; put it there$"):
        found("/nowhere/x")
