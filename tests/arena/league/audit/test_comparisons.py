"""The indicators that set cells against each other, each on a planted failure and on a sound control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from arena.league.audit.comparing import compared
from arena.league.audit.power import images_needed
from arena.league.board import Finding
from arena.league.cells import Source
from arena.league.matrices import matrices
from arena.rules.threat import Threat
from tests.arena.league.audit.hand import THREAT, N, said, source

MINIMUM = THREAT.model_copy(update={"objective": "minimum"})


def the(findings: list[Finding], **of: str) -> Finding:
    (one,) = [f for f in findings if all(getattr(f, key) == value for key, value in of.items())]
    return one


def adaptive(won: int, **match: Any) -> Source:
    return source("eot(square)", "snd", won=won, twin={"attacker": "square", "params": {"p": 0.3}}, **match)


def plain(won: int, p: float = 0.3, **match: Any) -> Source:
    return source("square", "snd", won=won, params={"p": p}, **match)


def test_adaptive_below_its_plain_twin() -> None:
    found = the(said("below-twin", plain(25), adaptive(10)), status="found")
    assert not found.grave  # its twin is there to be counted
    assert (found.attacker, found.defender) == ("eot(square)", "snd")
    assert "twin square: 25 % against 62 % of 40 images" in found.evidence
    assert the(said("below-twin", plain(10), adaptive(25))).status == "clear"
    assert the(said("below-twin", plain(11), adaptive(10))).status == "clear"  # chance explains one game


def test_a_twin_with_other_parameters_is_named_as_such() -> None:
    found = the(said("below-twin", plain(25, p=0.1), adaptive(10)))
    assert found.status == "found"
    assert "(with other p)" in found.evidence
    both = the(said("below-twin", plain(25, p=0.1), plain(10), adaptive(10)))
    assert both.status == "clear"  # the one of equal parameters counts


def test_a_twin_that_did_not_play_is_unchecked() -> None:
    assert the(said("below-twin", adaptive(10))).status == "unchecked"
    elsewhere = source("square", "rnd", params={"p": 0.3})
    assert the(said("below-twin", elsewhere, adaptive(10))).status == "unchecked"
    assert the(said("below-twin", source(roles=False))).status == "unchecked"
    assert said("below-twin", plain(10)) == []


def test_a_twin_by_distance() -> None:
    near, far = ({"threat": MINIMUM, "linf": np.full(N, d)} for d in (0.02, 0.05))
    found = the(said("below-twin", plain(N, **near), adaptive(N, **far)))
    assert found.status == "found"
    assert "0.05 against 0.02, nearer on 0 and farther on 40 of 40 images" in found.evidence
    assert the(said("below-twin", plain(N, **far), adaptive(N, **near))).status == "clear"


def controlled(square: int, noise: int, weak: int | None = None, **match: Any) -> list[Source]:
    played = [
        source(won=square, **match),
        source("noise", won=noise, **match),
        source(defender="snd", **match),
    ]
    if weak is not None:
        played.append(source(defender="weak", won=weak, facts=False, **match))
    return played


def test_an_attack_no_better_than_noise() -> None:
    found = the(said("beats-noise", *controlled(5, 5)), status="found")
    assert found.grave
    assert (found.attacker, found.defender) == ("square", "")  # of all of its cells
    assert "against none beside noise: 12 % against 12 % of 40 images" in found.evidence
    assert the(said("beats-noise", *controlled(30, 5))).status == "clear"
    assert the(said("beats-noise", *controlled(30, 30))).status == "found"  # noise wins: a ball too large
    assert the(said("beats-noise", *controlled(6, 5))).status == "unchecked"  # too few games to tell


def test_without_controls_nothing_is_checked() -> None:
    bare = [source(defender="snd"), source("noise", "snd")]
    for indicator, missing in (
        ("beats-noise", "no defender that defends nothing"),
        ("beats-weak", "no planted"),
    ):
        unchecked = the(said(indicator, *bare))
        assert unchecked.status == "unchecked"
        assert missing in unchecked.evidence
    for indicator in ("beats-noise", "noise-fools"):
        unchecked = the(said(indicator, source()))
        assert unchecked.status == "unchecked"
        assert "no attacker of plain noise" in unchecked.evidence


def test_an_attack_stopped_by_a_defense_that_changes_nothing() -> None:
    found = the(said("beats-weak", *controlled(30, 5, weak=8)), status="found")
    assert found.grave
    assert (found.attacker, found.defender) == ("square", "weak")
    assert "20 % against 75 % of 40 images" in found.evidence
    assert the(said("beats-weak", *controlled(30, 5, weak=28))).status == "clear"


def test_what_stops_it_there_stops_it_at_every_random_defense() -> None:
    played = [*controlled(30, 5, weak=8), source(defender="rnd", facts=False)]
    found = [f for f in said("beats-weak", *played) if f.status == "found"]
    assert [f.defender for f in found] == ["weak", "rnd"]  # not `snd`, whose answers are facts here
    assert "weak, which changes nothing, stops it" in found[1].evidence


def test_noise_fools_where_the_attack_does_not() -> None:
    first, last = np.arange(N) < 20, np.arange(N) >= 12
    found = the(said("noise-fools", source(won=first), source("noise", won=last)), status="found")
    assert "20 of 40 images" in found.evidence
    assert not found.grave
    assert the(said("noise-fools", source(won=20), source("noise", won=10))).status == "clear"


def test_noise_nearer_than_the_attack() -> None:
    near = {"threat": MINIMUM, "won": N}
    some = np.where(np.arange(N) < 10, 0.01, 0.2)
    found = the(said("noise-fools", source(**near), source("noise", linf=some, **near)))
    assert found.status == "found"
    assert "gets nearer than the attack on 10 of 40 images" in found.evidence


@pytest.mark.parametrize(
    ("small", "large", "status"), [(25, 10, "found"), (10, 25, "clear"), (11, 10, "clear")]
)
def test_success_that_falls_as_epsilon_grows(small: int, large: int, status: str) -> None:
    wide = THREAT.model_copy(update={"epsilon": 0.2})
    played = [source(won=small), source(won=large, threat=wide)]
    assert the(said("falls-with-epsilon", *played, threat=wide)).status == status
    assert the(said("falls-with-epsilon", *played, threat=THREAT)).status == "unchecked"


def test_other_rules_are_no_smaller_epsilon() -> None:
    wide = Threat(norm="l2", epsilon=0.2, budget=100, objective="submit")
    played = [source(won=25), source(won=10, threat=wide)]
    assert the(said("falls-with-epsilon", *played, threat=wide)).status == "unchecked"


def test_too_few_games_for_the_difference() -> None:
    close = [source(defender="snd", won=20), source(defender="rnd", won=23)]
    found = the(said("too-few-games", *close), status="found")
    assert found.defender == "snd"
    assert "snd: above rnd by 7.5 points" in found.evidence
    values = np.arange(N) < 23
    needed = images_needed(values.astype(float) - (np.arange(N) < 20))
    assert f"about {int(np.ceil(needed))} images" in found.advice
    clear = the(said("too-few-games", source(defender="snd", won=10), source(defender="rnd", won=30)))
    assert clear.status == "clear"
    equal = the(said("too-few-games", source(defender="snd", won=20), source(defender="rnd", won=20)))
    assert equal.status == "found"
    assert "Call them equal" in equal.advice
    assert (
        the(said("too-few-games", source(), source(defender="snd"))).status == "unchecked"
    )  # one is a control


def test_images_needed_gives_the_power_it_says() -> None:
    rng = np.random.default_rng(0)
    pilot = np.where(rng.random(4000) < 0.3, 1.0, 0.0) - np.where(rng.random(4000) < 0.2, 1.0, 0.0)
    n = round(images_needed(pilot))
    draws = rng.choice(pilot, size=(4000, n))
    z = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(n))
    assert abs((z > norm.ppf(0.975)).mean() - 0.8) < 0.03


def test_comparisons_are_by_image_over_what_both_played() -> None:
    own, other = source(won=10), source("noise", won=0, reason=["clean"] * 4 + ["budget"] * (N - 4))
    (matrix,) = matrices([own, other])
    pair = compared(matrix.cells["square", "none"], matrix.cells["noise", "none"])
    assert pair is not None
    assert (pair.images, pair.own, pair.other) == (36, 6 / 36, 0.0)


def test_many_clear_cells_are_one_finding() -> None:
    played = [
        source(defender=d, reason=["error"] * k + ["budget"] * (N - k)) for k, d in enumerate(("a", "b", "c"))
    ]
    clear = the(said("failed-games", *played))
    assert clear.status == "clear"
    assert "in none of 3 cases" in clear.evidence
    assert "square against c: 2 of 40 games" in clear.evidence


def test_what_is_unchecked_names_the_cells() -> None:
    unknown = {"margin_first": np.full(N, np.nan)}
    findings = said("still-improving", source(defender="a"), *(source(defender=d, **unknown) for d in "bc"))
    assert the(findings, status="unchecked").evidence.endswith(": square against b, square against c")
