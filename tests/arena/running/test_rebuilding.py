"""Every registered agent is made again from what a log says of it."""

from __future__ import annotations

import pytest

from arena.players.registry import build_attacker, missing_parameter, names
from arena.running.rebuilding import as_logged, differing, rebuild
from arena.scenario.files import parse_scenario
from arena.scenario.identity import places, without_places


def said(match, **more):
    return as_logged({**without_places(match.describe()), "batch": 64, "places": places(match), **more})


def scenario(**changes):
    table = {"attackers": ["square"], "defenders": ["none"], "threat": {"epsilon": 0.2, "budget": 20}}
    return parse_scenario({**table, **changes}, "one", None, "one").matches


FAR = {"epsilon": "inf", "budget": 90, "objective": "minimum"}


class Logged:
    """What `rebuild` asks of a logged match."""

    id = 1

    class info:
        number, block, title, attacker_title, defender_title = 0, "", "", "a", "d"


@pytest.mark.parametrize("name", [n for n in names("defender") if missing_parameter("defender", n) is None])
def test_defenders(name: str) -> None:
    (match,) = scenario(defenders=[{"stack": [name, {"name": "snd", "sigma": 0.3}]}])
    found = rebuild(said(match), Logged)
    assert found.defenders == match.defenders and found.settings.batch == 64
    assert found.describe() == match.describe()


@pytest.mark.parametrize("name", [n for n in names("attacker") if missing_parameter("attacker", n) is None])
def test_attackers(name: str) -> None:
    agent = build_attacker(name)
    needs = agent.needs
    threat = {
        "epsilon": 0.2,
        "budget": 20,
        "norm": needs.norms[0],
        "goal": needs.goals[0],
        "objective": needs.objectives[0],
        "knowledge": needs.knowledge,
        "resources": {
            "images": max(needs.images, 4),
            "starts": True,
            "surrogates": [
                "digits-cnn",
                {"network": "resnet20", "weights": "w.pt", "params": {"classes": 10}},
            ],
        },
    }
    defenders = ["predcoin"] if needs.knowledge == "detector" else ["none"]
    for match in scenario(attackers=[name], threat=threat, defenders=defenders):
        found = rebuild(said(match), Logged)
        assert found.attacker == match.attacker and found.threat == match.threat and found.at == match.at


def test_agents_inside_others() -> None:
    inner = {"name": "eot", "of": {"name": "square", "p": 0.2}}
    (match,) = scenario(attackers=[inner])
    table = said(match)
    assert table["attacker"]["name"] == "eot(square)" and table["attacker"]["of"]["agent"] == "Square"
    assert rebuild(table, Logged).attacker == match.attacker == build_attacker(inner)


def test_numbers_that_json_lacks() -> None:
    (match,) = scenario(attackers=["hop-skip-jump"], threat=FAR, at=[30])
    table = said(match)
    assert table["threat"]["epsilon"] == "inf"
    found = rebuild(table, Logged)
    assert found.threat == match.threat and found.at == match.at == (30, 90)


def test_places_are_kept_outside_of_the_identity(tmp_path) -> None:
    world = {
        "dataset": {"name": "npz", "path": "x.npz"},
        "classifier": {"network": "resnet20", "weights": "w.pt"},
    }
    (match,) = scenario(**world)
    table = said(match)
    assert "path" not in table["world"]["dataset"] and table["places"] == {"path": "x.npz", "weights": "w.pt"}
    assert rebuild(table, Logged).world == match.world


def test_a_monitor_is_part_of_what_is_made_again() -> None:
    (plain,), (watched,) = scenario(), scenario(margin_base=True)
    for match in (plain, watched):
        assert rebuild(said(match), Logged).settings.margin_base == match.settings.margin_base
    assert differing(plain, said(watched)) == differing(watched, said(plain)) == ["margin_base"]
    assert differing(plain, said(plain)) == differing(watched, said(watched)) == []
    assert rebuild(said(watched), Logged, known=[plain]).settings.margin_base
