"""Secret seeds: what they decide, what is told of them, and how they are read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from arena.draws import derive
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.seeds import PUBLIC, Seeds, read_secret

ONE, OTHER = Seeds(b"0123456789abcdef"), Seeds(b"0123456789abcdeg")


def test_without_a_secret_all_follows_from_the_scenarios_seed() -> None:
    image = np.array([3, 1, 4])

    assert PUBLIC.of_draw(7) == 7
    assert PUBLIC.of_side("defender", 7, 2) == derive(7, "defender", 2)
    assert np.array_equal(PUBLIC.numbers(image, 5), image)
    assert PUBLIC.commitment == ""


def test_each_use_of_a_secret_is_a_seed_of_its_own() -> None:
    def drawn(seeds: Seeds) -> list[int]:
        sides = [
            seeds.of_side(who, seed, r) for who in ("attacker", "defender") for seed in (0, 1) for r in (0, 1)
        ]
        if seeds.secret is not None:
            sides += [seeds.of_side(who, 0, 0, "others") for who in ("attacker", "defender")]
        return [seeds.of_draw(0), seeds.of_draw(1), *sides]

    everything = [*drawn(ONE), *drawn(OTHER), *drawn(PUBLIC)]

    assert len(set(everything)) == len(everything)
    assert drawn(ONE) == drawn(pickle.loads(pickle.dumps(ONE)))
    assert all(0 <= seed < 2**63 for seed in everything)


def test_games_get_numbers_in_a_secret_order() -> None:
    image = np.arange(1000)

    number = ONE.numbers(image, 1000)

    assert sorted(number.tolist()) == image.tolist()
    assert (number == image).sum() < 10
    assert (number == OTHER.numbers(image, 1000)).sum() < 10
    assert np.array_equal(ONE.numbers(image[5:9], 1000), number[5:9]), "whatever else is asked for"


def test_the_secret_is_told_by_its_commitment_alone() -> None:
    assert ONE.commitment != OTHER.commitment
    assert "0123456789" not in repr(ONE)
    assert ONE.commitment in repr(ONE)


@pytest.mark.parametrize("content", [b"", b"short", b"a" * 40, b"ab" * 20, b"0123456789abcdef" * 300])
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (file := tmp_path / "seed").write_bytes(content)

    with pytest.raises(ScenarioError, match="a secret has 16 to 4,096 random ones; write one by: openssl"):
        read_secret(file)


@pytest.mark.parametrize("content", [bytes(range(16)), b"0123456789 abcdef", b"0123456789abcde\xff"])
def test_a_secret_that_could_not_be_published_is_refused(tmp_path: Path, content: bytes) -> None:
    (file := tmp_path / "seed").write_bytes(content)

    with pytest.raises(ScenarioError, match="no page could show it once it is published"):
        read_secret(file)


def test_a_secret_is_read_without_white_space(tmp_path: Path) -> None:
    (file := tmp_path / "seed").write_bytes(b" 0123456789abcdef\n")

    assert read_secret(file) == ONE
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        read_secret(tmp_path / "none")


def test_a_ranked_run_plays_the_controls_apart_from_the_arena() -> None:
    table = {
        "attackers": ["square"],
        "defenders": ["snd", "none"],
        "block": [{"title": "apart"}, {"title": "here", "isolation": "none"}],
        "threat": {"epsilon": 0.2, "budget": 5},
    }

    def played(seeds: Seeds) -> list[tuple[str, str, str, str]]:
        matches = parse_scenario(table, "ranked", Path.cwd(), "ranked.toml", seeds=seeds).matches
        assert {match.seeds for match in matches} == {seeds}
        return [(m.block, m.attacker_name, m.defender_name, m.settings.isolation) for m in matches]

    assert played(PUBLIC) == [(b, "square", d, "none") for b in ("apart", "here") for d in ("snd", "none")]
    assert played(ONE) == [
        (block, attacker, defender, isolation)
        for block, isolation in (("apart", "process"), ("here", "none"))
        for attacker in ("square", "noise")
        for defender in ("snd", "none", "weak")
    ]
