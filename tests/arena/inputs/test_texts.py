"""Texts of unknown origin end in a value or a sentence, never in a traceback or a wait."""

from __future__ import annotations

import pytest

from arena.inputs.texts import DEEPEST, LARGEST, TextError, read_json, read_toml


def test_what_is_within_the_limits_is_read() -> None:
    assert read_toml('a = [1, { b = "x" }]\nc = 1e999') == {"a": [1, {"b": "x"}], "c": float("inf")}
    assert read_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert read_toml(f"a = {LARGEST - 1}\nb = -{LARGEST}") == {"a": LARGEST - 1, "b": -LARGEST}
    deep = "[" * (DEEPEST - 2) + "1" + "]" * (DEEPEST - 2)
    assert read_toml(f"a = {deep}") and read_json(deep)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ", "is not valid TOML: Invalid value"),
        (f"a = {'9' * 5000}", "is not valid TOML: a whole number has thousands of digits"),
        (f"a = 0x{'f' * 9000}", "holds a whole number beyond the range of -2"),
        (f"a = {LARGEST}", "holds a whole number beyond"),
        (f"a = [[{LARGEST}]]", "holds a whole number beyond"),
        ("a = " + "[" * 5000 + "]" * 5000, "is not valid TOML: tables and lists lie within each other"),
        ("a = " + "{ b = " * 5000 + "1" + " }" * 5000, "is not valid TOML: tables and lists lie within"),
        ("a" + ".a" * 2000 + " = 1", f"deeper within each other than {DEEPEST}"),
        ("a = " + "[" * DEEPEST + "1" + "]" * DEEPEST, f"deeper within each other than {DEEPEST}"),
    ],
    ids=lambda value: value[:20],
)
def test_toml_beyond_them_is_told(text: str, told: str) -> None:
    with pytest.raises(TextError, match=told):
        read_toml(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not valid JSON: Expecting property name"),
        ("9" * 5000, "is not valid JSON: a whole number has thousands of digits"),
        (str(-LARGEST - 1), "holds a whole number beyond"),
        ("[" * 5000 + "]" * 5000, "is not valid JSON: tables and lists lie within each other"),
        ("[" * 200 + "]" * 200, f"deeper within each other than {DEEPEST}"),
    ],
    ids=lambda value: value[:20],
)
def test_json_beyond_them_is_told(text: str, told: str) -> None:
    with pytest.raises(TextError, match=told):
        read_json(text)
