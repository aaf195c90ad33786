"""What is one attacker, one defender, a stack, or a list of them."""

from __future__ import annotations

import pytest

from agents.attackers.score.square import Square
from agents.defenders.snd import SND
from arena.notebook.entrants import one_attacker, one_stack, several


def titles(side, given):
    return [entrant.title for entrant in several(side, given)]


def test_entries_are_defenses_of_their_own_and_lists_within_are_stacks() -> None:
    found = several("defenders", ["none", SND(), ["aaa-linear", "snd"], {"stack": ["snd", "rnd"]}])
    assert [entrant.title for entrant in found] == ["none", "snd", "aaa-linear+snd", "snd+rnd"]
    assert [len(entrant.agents) for entrant in found] == [1, 1, 2, 2]
    assert one_stack(["aaa-linear", "snd"]).title == "aaa-linear+snd"


def test_titles_are_given_or_tell_equal_names_apart() -> None:
    table = {"weak": {"name": "snd", "sigma": 0.01}, "strong": ["snd", "rnd"]}
    assert titles("defenders", table) == ["weak", "strong"]
    pair = ["square", {"name": "square", "p": 0.3}, "random-search"]
    assert titles("attackers", pair) == ["square (p=0.05)", "square (p=0.3)", "random-search"]
    assert titles("attackers", [Square, "square"]) == ["square", "square #2"]
    assert titles("attackers", [{"name": "eot", "of": "square"}]) == ["eot(square)"]
    stacks = [["snd", {"name": "snd", "sigma": s}] for s in (0.1, 0.2)]
    assert titles("defenders", stacks) == ["snd+snd (2.sigma=0.1)", "snd+snd (2.sigma=0.2)"]


@pytest.mark.parametrize(
    ("side", "given", "said"),
    [
        (
            "attackers",
            "square",
            r"attackers must be a list of attackers .*put one alone into brackets, \['square'\]",
        ),
        ("attackers", {"name": "square", "p": 0.1}, "found one of them: put it into brackets"),
        ("defenders", {"stack": ["snd"]}, "found one of them: put it into brackets"),
        ("defenders", [], "defenders must be a list .* found none"),
        ("defenders", ["snb"], 'there is no defender "snb"; did you mean "snd"'),
    ],
)
def test_what_is_no_list_is_told_what_one_is(side, given, said) -> None:
    with pytest.raises(ValueError, match=said):
        several(side, given)


def test_lists_where_one_is_wanted_are_told_how_to_play_several() -> None:
    with pytest.raises(ValueError, match=r"plays one attacker; found a list of 2: arena\.play_all\("):
        one_attacker(["square", "eot"])
    with pytest.raises(ValueError, match=r'one stack, in which "none" does nothing; arena\.play_all\('):
        one_stack(["none", "snd"])
