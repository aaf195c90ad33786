"""Which matches share a table, and what their agents are called there."""

from __future__ import annotations

from arena.league.labels import flat
from arena.report.groups import grouped
from arena.report.summary import read_rows
from arena.rules.threat import NamedNetwork, Threat


def agents(number: int, attacker: str, defender: str, p: float = 0.3, sigma: float = 0.1) -> dict:
    return {
        "number": number,
        "attacker": attacker,
        "attacker_title": attacker,
        "attacker_params": {"p": p},
        "defender": defender,
        "defender_title": defender,
        "defender_params": {"defenders": [{"name": defender, "sigma": sigma}]},
    }


def test_attackers_cross_defenders_and_the_worst_case_is_the_least(hand, game):
    run = hand.run()
    won = game(0, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1)
    hand.match(run, won, game(1), **agents(0, "square", "none"))
    hand.match(run, game(0), game(1), **agents(1, "square", "snd"))
    hand.match(run, game(0), game(1), **agents(2, "nes", "none"))
    hand.match(run, **agents(3, "nes", "snd"))
    (group,) = grouped(read_rows(hand.log, run))
    assert [side.label for side in group.attackers] == ["square", "nes"]
    assert [side.label for side in group.defenders] == ["none", "snd"]
    assert group.cell(1, 0).match.info.attacker == "nes"
    assert group.worst(0) is group.cell(0, 0)
    assert group.worst(1) is group.cell(0, 1), "a match without games is no worst case"
    assert group.cell(0, 0).headline.value == 0.5


def test_agents_of_one_name_are_told_apart_by_what_differs(hand):
    run = hand.run()
    hand.match(run, **agents(0, "square", "snd"))
    hand.match(run, **agents(1, "square", "snd", sigma=0.2))
    hand.match(run, **agents(2, "square", "snd", p=0.05))
    (group,) = grouped(read_rows(hand.log, run))
    assert [side.label for side in group.attackers] == ["square (p=0.3)", "square (p=0.05)"]
    assert [side.label for side in group.defenders] == ["snd (sigma=0.1)", "snd (sigma=0.2)"]
    assert group.cell(1, 1) is None


def test_threats_worlds_and_blocks_make_groups_but_budgets_do_not(hand):
    run = hand.run()
    threats = [
        Threat(epsilon=0.1, budget=10),
        Threat(epsilon=0.1, budget=50),  # EOT's convention
        Threat(epsilon=0.2, budget=10),
    ]
    hand.match(run, **agents(0, "square", "none"), threat=threats[0])
    hand.match(run, **agents(1, "eot", "none"), threat=threats[1])
    hand.match(run, **agents(2, "square", "none"), threat=threats[2])
    hand.match(run, **agents(3, "square", "none"), threat=threats[2], block="second")
    hand.match(run, **agents(4, "square", "none"), threat=threats[2], block="second", dataset_sha="other")
    groups = grouped(read_rows(hand.log, run))
    assert [len(group.rows) for group in groups] == [2, 1, 1, 1]
    assert groups[0].threat.budget == 10
    assert [side.label for side in groups[0].attackers] == ["square", "eot, 50 queries"]
    assert groups[2].title == "second"


def test_a_pair_that_comes_again_begins_a_group(hand):
    run = hand.run()
    for number, budget in enumerate((10, 20)):
        threat = Threat(epsilon=0.1, budget=budget)
        hand.match(run, **agents(number, "square", "none"), threat=threat)
    assert [group.threat.budget for group in grouped(read_rows(hand.log, run))] == [10, 20]


def test_an_attacker_that_played_once_per_count_is_one_attacker(hand, game):
    run = hand.run()
    threat = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    for number, budget in enumerate((5, 10)):
        own = {"threat": threat.with_budget(budget), "at": (budget,), "title": f"{budget} queries"}
        won = game(0, "budget", budget, hit_at=1, votes=(0, 1, 1), l2=3 / budget)
        hand.match(run, won, **agents(2 * number, "geoda", "none"), **own)
        hand.match(run, game(0, "budget", budget), **agents(2 * number + 1, "geoda", "snd"), **own)
    hand.match(run, game(0, hit_at=1, votes=(0, 1, 1), l2=0.5), **agents(4, "rays", "none"), threat=threat)
    (group,) = grouped(read_rows(hand.log, run))
    assert [side.label for side in group.attackers] == ["geoda", "rays"]
    assert [side.label for side, _ in group.by_attacker] == ["geoda, 5 queries", "geoda, 10 queries", "rays"]
    assert [len(cells) for _, cells in group.by_attacker] == [2, 2, 1]
    assert group.cell(0, 0).budget == 10 and group.cell(0, 0).match.info.defender == "none"
    assert group.budgets == {10} and group.threat.budget == 10
    assert [m.value for m in group.distances(0, 0).median.values()] == [0.6, 0.3]
    assert group.distances(1, 1) is None
    assert group.worst(0) is group.cell(0, 0) and group.is_worst(group.cell(0, 1), 1)
    assert not group.is_worst(group.cell(1, 0), 0)
    assert (group.share(group.cell(0, 0)), group.share(group.cell(0, 1))) == (0.6, 1.0)


def test_what_an_attacker_knows_keeps_tables_apart(hand, game):
    run = hand.run()
    for number, knowledge in enumerate(("none", "none", "weights", "detector", "defense")):
        threat = Threat(epsilon=0.1, budget=10, knowledge=knowledge)
        hand.match(run, game(0), **agents(number, f"attacker-{number}", "none"), threat=threat)
    groups = grouped(read_rows(hand.log, run))
    assert [len(group.rows) for group in groups] == [2, 1, 1, 1]
    assert [group.threat.knowledge for group in groups] == ["none", "weights", "detector", "defense"]


def test_insiders_share_no_table_with_those_that_left_what_was_granted_alone(hand, game):
    run = hand.run()
    threat = Threat(epsilon=0.1, budget=10, knowledge="weights")
    for number, insider in enumerate((0, 0, 7, 0)):
        of = game(0, insider=insider)
        hand.match(run, of, **agents(number, f"attacker-{number}", "none"), threat=threat)
    groups = grouped(read_rows(hand.log, run))
    assert [[row.insider for row in group.rows] for group in groups] == [[0, 0, 0], [7]]


def test_attackers_with_reference_networks_do_not_part_those_that_stand_around_them(hand, game):
    run = hand.run()
    plain = Threat(epsilon=0.1, budget=10)
    owned = plain.with_surrogates([NamedNetwork(network="digits-cnn")])
    for number, threat in enumerate((plain, owned, plain, owned)):
        hand.match(run, game(0), **agents(number, f"attacker-{number}", "none"), threat=threat)
    groups = grouped(read_rows(hand.log, run))
    assert [[side.label for side in group.attackers] for group in groups] == [
        ["attacker-0", "attacker-2"],
        ["attacker-1", "attacker-3"],
    ]


def test_what_json_holds_as_text():
    value = {
        "a": 0.1 + 0.2,
        "of": {"name": "x", "deep": [1, 2]},
        "stack": [{"s": None}, {"s": True}],
        "no": {},
    }
    assert list(flat(value)) == [
        ("a", "0.3"),
        ("of.name", "x"),
        ("of.deep", "[1, 2]"),
        ("stack.1.s", "none"),
        ("stack.2.s", "true"),
    ]
