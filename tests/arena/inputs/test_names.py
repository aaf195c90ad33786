"""Names lead to attributes of modules; looking at them calls nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from arena.inputs.names import NameRefused, import_attribute


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    texts = {
        "named_things": "def thing(): raise AssertionError\nother = thing",
        "named_exit": "import sys\nsys.exit(0)",
        "named_odd": "class Odd(BaseException):\n    def __str__(self): raise RuntimeError\nraise Odd",
    }
    for name, text in texts.items():
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.usefixtures("modules")
def test_a_thing_is_found_and_not_called() -> None:
    assert import_attribute("named_things:thing").__name__ == "thing"


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("named_things:thong", 'named_things has no "thong"; did you mean "thing"? allowed: other, thing'),
        ("named_exit:x", "named_exit cannot be imported: SystemExit: 0"),
        ("named_odd:x", "named_odd cannot be imported: Odd"),
        ("named_nowhere:x", "named_nowhere cannot be imported: ModuleNotFoundError: No module named"),
        ("os:system", "os is not imported: commands and Python's own modules are no plug-ins"),
        ("os.path:join", "os.path is not imported"),
        ("antigravity:fly", "antigravity is not imported"),
        ("builtins:exec", "builtins is not imported"),
        ("pip.__main__:x", "pip.__main__ is not imported"),
    ],
)
def test_what_is_not_there_or_no_plugin_is_told(name: str, told: str) -> None:
    with pytest.raises(NameRefused) as caught:
        import_attribute(name)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "name",
    [
        *("../x:y", ".x:y", "a..b:c", "/tmp/x:y", "a b:c", "a:b.c", "a:b:c", ":x", "x:", ":", "x", "a\n:b"),
        *("a\0b:c", "1a:b", "a-b:c", "x" * 5000 + ":y", "a." * 2000 + "b:c", "\x1b[31m:x"),
    ],
)
def test_an_odd_name_is_not_looked_up(name: str) -> None:
    with pytest.raises(NameRefused, match='is not "module:attribute", both of letters, digits and _'):
        import_attribute(name)
