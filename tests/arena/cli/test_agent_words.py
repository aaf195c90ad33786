"""Agents as the command line writes them."""

from __future__ import annotations

from typing import Any

import pytest

from arena.cli.agent_words import agent_of, changes
from arena.cli.console import CommandError
from arena.scenario.lineups import Changes

SQUARE = {"name": "square", "p": 0.3}


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("square", "square"),
        ("my_module:MyAttack", "my_module:MyAttack"),
        ("square:p=0.3", SQUARE),
        ("square: p = 0.3, rescale = true", {**SQUARE, "rescale": True}),
        ("my_module:MyAttack:p=3", {"name": "my_module:MyAttack", "p": 3}),
        ("square:loss=margin", {"name": "square", "loss": "margin"}),
        ("eot:of=square,repeats=3", {"name": "eot", "of": "square", "repeats": 3}),
        ('eot:of={ name = "square", p = 0.3 },repeats=3', {"name": "eot", "of": SQUARE, "repeats": 3}),
        ('eot:of={"name": "square", "p": 0.3}', {"name": "eot", "of": SQUARE}),
        ('a:words=["x,y", "z"],n=1', {"name": "a", "words": ["x,y", "z"], "n": 1}),
        ('{ name = "square", p = 0.3 }', SQUARE),
        ('{"name": "square", "p": 0.3}', SQUARE),
        ('{ stack = ["aaa-linear", { name = "snd", sigma = 0.02 }] }',
         {"stack": ["aaa-linear", {"name": "snd", "sigma": 0.02}]}),
        ('["aaa-linear", "snd"]', ["aaa-linear", "snd"]),
    ],
)  # fmt: skip
def test_an_agent_is_read_in_each_form(text: str, agent: Any) -> None:
    assert agent_of("--attacker", text) == agent


@pytest.mark.parametrize("text", ["", "square=3", "square:p=", "square:p=1,q", "square:p=1,p=2", "{name=sq"])
def test_what_is_in_none_of_them_is_told(text: str) -> None:
    with pytest.raises(
        CommandError, match=r"^--attacker: .*(it must be NAME, NAME:KEY=VALUE|not valid|neither)"
    ):
        agent_of("--attacker", text)


def test_lists_are_left_alone_unless_an_option_is_given() -> None:
    assert changes([], [], [], []) == Changes()
    assert changes(["square"], [], [], ["snd:sigma=0.1"]) == Changes(
        attackers=("square",), more_defenders=({"name": "snd", "sigma": 0.1},)
    )
