"""Sizes of a scenario: what they lay over what, and what a mistake is told."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from arena.scenario.errors import ScenarioError
from arena.scenario.files import Scenario, parse_scenario

TEXT = """
title = "Sized"
size = "small"
games = 7
at = [10, 20]
defenders = ["none"]
attackers = ["square"]

[threat]
epsilon = 0.5
norm = "l2"
budget = 100
resources = { images = 3 }

[sizes.small]

[sizes.full]
games = 1000
shard = 500
at = [1000]
threat = { budget = 25000 }
defenders = ["none", "snd"]

[[block]]
title = "plain"

[[block]]
title = "own"
games = 9
attackers = ["random-search"]
threat = { budget = 50 }
[block.sizes.full]
shard = 100
threat = { budget = 2000, norm = "linf" }
"""


def parse(text: str = TEXT, size: str | None = None) -> Scenario:
    table: dict[str, Any] = tomllib.loads(text)
    return parse_scenario(table, "x", Path.cwd(), "x.toml", size)


def told(text: str, size: str | None = None) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, size)
    return str(caught.value)


def test_the_default_size_is_played_unless_another_is_chosen() -> None:
    for wanted, name in ((None, "small"), ("small", "small"), ("full", "full")):
        scenario = parse(size=wanted)
        assert (scenario.size, scenario.sizes) == (name, ("small", "full"))
        assert scenario.title == f"Sized (size {name})"
    assert parse().matches == parse(size="small").matches


def test_a_size_is_laid_over_top_level_and_blocks_and_blocks_over_the_top_level() -> None:
    plain, own = parse().matches
    assert (plain.settings.games, plain.settings.shard, plain.at) == (7, 250, (10, 20, 100))
    assert (own.settings.games, own.at) == (9, (10, 20, 50))
    plain, snd, own, _ = parse(size="full").matches
    assert (plain.defender_name, snd.defender_name, own.attacker_name) == ("none", "snd", "random-search")
    assert (plain.settings.games, plain.settings.shard, plain.at) == (1000, 500, (1000, 25000))
    assert (own.settings.games, own.settings.shard, own.at) == (9, 100, (1000, 2000))


def test_a_threat_is_laid_over_key_by_key() -> None:
    plain, *_, own = parse(size="full").matches
    assert (plain.threat.norm, plain.threat.epsilon, plain.threat.budget) == ("l2", 0.5, 25000)
    assert (own.threat.norm, own.threat.epsilon, own.threat.budget) == ("linf", 0.5, 2000)
    assert plain.threat.resources.images == own.threat.resources.images == 3


def test_threats_and_worlds_of_a_size_stand_in_place_of_the_singular_forms() -> None:
    text = TEXT.replace(
        "threat = { budget = 25000 }",
        "threats = [{ epsilon = 1, budget = 2000 }, { epsilon = 2, budget = 2000 }]",
    ).replace("threat = { budget = 2000, norm", "threat = { epsilon = 3, budget = 2000, norm")
    text = text.replace("threat = { budget = 50 }", "")
    assert "x.toml (size full): block 2: threats: found beside threat" in told(text)
    (first, second, *_) = parse(text.partition('[[block]]\ntitle = "own"')[0], "full").matches
    assert [m.threat.epsilon for m in (first, second)] == [1, 1]


def test_a_scenario_without_sizes_has_none() -> None:
    text = TEXT.replace('size = "small"', "").replace("[sizes.small]", "").partition("[sizes.full]")[0]
    scenario = parse(text)
    assert (scenario.size, scenario.sizes, scenario.title) == ("", (), "Sized")
    assert told(text, "full") == 'x.toml: there is no size "full": the scenario has no sizes'
    assert told(f"size = 'small'\n{text}") == (
        "x.toml: size: found 'small'; there are no sizes, write them as [sizes.NAME]"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('size = "small"', ""), "size: this key is missing; it names the default of: small, full"),
        (
            ('"small"', '"smal"'),
            "size: there is no size 'smal'; did you mean \"small\"? allowed: full, small",
        ),
        (('"small"', "3"), "size: there is no size 3; allowed: full, small"),
        (("[sizes.small]", "[sizes]\nsmall = 3"), "sizes.small: found 3; write it as [sizes.small]"),
        (
            ("[block.sizes.full]", "[block.sizes.ful]"),
            'block 2: sizes.ful: the top level names no such size; did you mean "full"? allowed: full, small',
        ),
        (("games = 9", 'games = 9\nsize = "full"'), "block 2: size: it is for the top level alone"),
        (("shard = 500", "sizes = {}"), "sizes.full.sizes: a size holds no sizes"),
        (
            ("[sizes.small]", "[[sizes.small.block]]"),
            "sizes.small.block: a size holds no blocks; write [block.sizes",
        ),
    ],
)
def test_a_mistake_in_sizes_is_told(change: tuple[str, str], said: str) -> None:
    assert told(TEXT.replace(*change)).startswith(f"x.toml: {said}")


def test_a_size_that_was_not_chosen_is_checked_too() -> None:
    text = TEXT.replace("games = 1000", "gmes = 1000")
    assert told(text) == told(text, "small")
    assert told(text).startswith(
        'x.toml (size full): block 1: gmes: there is no such key; did you mean "games"?'
    )
    text = TEXT.replace("budget = 2000,", "budget = 999,")
    assert told(text) == "x.toml (size full): block 2: at: found 1000; counts go up to the budget 999"


def test_an_unknown_size_is_told_in_one_sentence() -> None:
    assert told(TEXT, "ful") == 'x.toml: there is no size "ful"; did you mean "full"? allowed: full, small'
