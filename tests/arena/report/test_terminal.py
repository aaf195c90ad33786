"""The tables on the terminal."""

from __future__ import annotations

import io
import math
import re

import pytest
from rich.console import Console

from arena.log import LogError, open_log
from arena.report import words
from arena.report.terminal import print_results
from arena.rules.threat import Threat

LUCKY = {"verdict": "vote", "answers_are_facts": False}
"""Of a match against a random defender."""


def printed(log, run: int, width: int = 80, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, no_color=True)
    print_results(console, log, run)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


def test_all_numbers_of_a_match(hand, game):
    run = hand.run()
    won = game(0, "hit", 3, hit_at=3, votes=(0, 0.6, 0.6), base=True, l2=1.0)
    hand.match(run, won, game(1), game(2), game(3, "clean", 0, votes=(1, 1, 1)))
    said = printed(hand.log, run)
    assert "digits, net · ℓ2, epsilon 1.5 · budget 10 queries" in said
    (line,) = [line for line in said.splitlines() if line.startswith("  none")]
    assert re.split(r"\s{2,}", line.strip()) == [
        "none",
        "75.0",  # left at 0
        "50.0",  # left at 5
        "50.0 [15, 85]",
        "33.3 [6, 79]",
        "20.0",
        "33.3",
        "3/3",
        "∞",
    ]


def test_the_worst_case_of_a_defender_is_marked(play):
    attackers = [{"name": "square", "p": 0.3}, "random-search"]
    with open_log(play(attackers=attackers), create=False) as log:
        said = printed(log, 1)
    matrix = said[said.index("accuracy left at the budget") : said.index("\nattacker")]
    assert matrix.count("*") == 1 + 1, "one for the defender with ranks, and the legend's"


def test_all_that_share_the_worst_case_are_marked(hand, game):
    run = hand.run()
    for number, name in enumerate(("one", "two")):
        hand.match(run, game(0), game(1), number=number, attacker=name, attacker_title=name)
    won = game(0, "hit", 3, hit_at=3, votes=(0, 1, 1), l2=1.0)
    hand.match(run, game(1), number=2, attacker="one", attacker_title="one", defender="other")
    hand.match(run, won, number=3, attacker="two", attacker_title="two", defender="other")
    lines = printed(hand.log, run).splitlines()
    matrix = [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"(none|other)  ", line)]
    assert matrix == [["none", "100.0*", "100.0*"], ["other", "100.0", "0.0*"]]


def test_what_defended_classifiers_are_worth_stands_beside_what_attackers_leave(hand, game):
    run = hand.run()
    match = hand.match(run, game(0), game(1))
    hand.log.record_utility(match, hand.utility(nll=math.inf))
    other = hand.match(run, game(0), number=1, defender="other", utility=200)
    hand.log.record_utility(other, hand.utility(images=200, cost_1=math.nan))
    hand.match(run, game(0), number=2, defender="unknown")
    said = printed(hand.log, run)
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert ["none", "90.0", "12.5", "1.25", "97.5", "1.23", "∞", "100.0*"] in rows
    assert ["other", "90.0", "12.5", "–", "97.5", "1.23", "0.25", "100.0*"] in rows
    assert ["unknown", "–", "–", "–", "–", "–", "–", "100.0*"] in rows
    assert "on 200 or 1,000 clean images" in said


def test_lines_fit_the_width_wherever_they_go(play):
    with open_log(play(), create=False) as log:
        for width, terminal in ((80, True), (100, True), (120, True), (80, False)):
            room = width if terminal else 120
            lines = printed(log, 1, width, terminal).splitlines()[3:]
            assert max(map(len, lines)) <= room
            assert not any("…" in line for line in lines)


@pytest.fixture
def near(hand, game, threat):
    """Twenty games under objective minimum against two defenders, the second of them a random one."""
    rules = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    run = hand.run()
    won = [game(i, hit_at=1 + 5 * (i % 2), votes=(0, 1, 1), base=True, l2=i + 1) for i in range(15)]
    lost = [game(15 + i, "no-start", 3) for i in range(5)]
    hand.match(run, *won, *lost, threat=rules, radii=(4.0,))
    vague = [game(i, hit_at=1, votes=(0, 0.5, 0.2), l2=i + 1) for i in range(20)]
    hand.match(run, *vague, threat=rules, radii=(4.0,), number=1, defender="snd", **LUCKY)
    return hand.log, run


def test_distances_stand_in_place_of_accuracy_under_objective_minimum(near):
    said = printed(*near)
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert "median ℓ2 distance at the budget, by answered or vote; * the least" in said
    assert ["none", "10.5*!"] in rows and ["snd", "∞*(10.5)"] in rows
    assert ["none", "median ℓ2", "∞ [11, ∞]", "10.5 [6, 15]", "25.0"] in rows, "at 5, at 10, and no start"
    assert ["≤ 4", "10.0 [3, 30]", "20.0 [8, 42]"] in rows
    assert ["≤ ∞", "40.0 [22, 61]", "75.0 [53, 89]"] in rows
    assert ["snd", "median ℓ2", "∞ (10.5) [∞, ∞]", "∞ (10.5) [∞, ∞]", "0.0"] in rows, "none wins its vote"
    assert ["≤ 4", "10.0 (20.0/0.0) [3, 30]", "4.0 (20.0/0.0) [1, 22]"] in rows
    assert "≤ r: percent won by an image within r; in brackets by the two other verdicts" in said
    assert "accuracy left" not in said and "queries to the first hit" not in said


def test_a_narrow_console_shows_the_last_counts_of_distances(near):
    for width in (50, 60, 80):
        lines = printed(*near, width, terminal=True).splitlines()
        table = lines[next(n for n, line in enumerate(lines) if line.startswith("attacker")) :]
        assert "@10" in " ".join(table[:2])
        assert max(map(len, table[: next(n for n, line in enumerate(table) if "≤ r" in line) - 1])) <= width


def test_how_far_queries_went_is_told_where_the_first_hit_ends_a_game(hand, game):
    run = hand.run()
    hand.match(run, game(0, asked_l2=1.0), game(1, asked_l2=2.0))
    said = printed(hand.log, run)
    assert "mean ℓ2 distance of the query there, or of the last one before" in said
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert ["none", "1.5", "1.65"] in rows
    assert ["defender", "@5", "@10"] in rows
    nearest = hand.run()
    threat = Threat(norm="l2", epsilon=1.5, budget=10, feedback="label", objective="minimum")
    hand.match(nearest, game(0, asked_l2=1.0), threat=threat)
    assert "distance of the query" not in printed(hand.log, nearest)


def test_flagged_shares_of_defenders_that_flag(hand, game, asked):
    run = hand.run()
    hand.match(run, game(0), queries=[asked("gradient", 8, 0)])
    other = hand.match(
        run,
        game(0),
        number=1,
        defender="predcoin",
        queries=[asked("gradient", 40, 30), asked("start", 10, 1, 41), asked("candidate", 10, 9, 51)],
    )
    hand.log.record_utility(other, hand.utility())
    said = printed(hand.log, run, width=120)
    table = said[said.index("flagged, in percent") :]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert rows[2][1:] == ["images", "@5", "@10", "queries", "queries", "gradient", "candidate", "start"]
    one = "100.0 [21, 100]"  # of the first 5 and 10 queries of the only game all are flagged
    assert ["predcoin", "3.3", one, one, "78.0", "66.7", "75.0", "90.0", "10.0"] in rows
    assert not [row for row in rows if row[0] == "none"]


def test_the_means_of_what_was_noted_in_numbers(hand, game):
    run = hand.run()
    hand.match(run, game(0, valid_share=(0.02, 0.04)), game(1, valid_share=(0.06,)))
    hand.match(run, game(0), number=1, defender="other", defender_title="other")
    said = printed(hand.log, run, width=120)
    assert re.search(r"valid-share,\s*\n.* mean", said)
    last = {line.split()[0]: line.split()[-1] for line in said.splitlines() if line.strip()}
    assert last["none"] == "0.04" and last["other"] == "–"


def test_broken_games_and_an_unfinished_run_are_told(hand, game):
    run = hand.run(ended=False, resolved={"matches": [{"games": 4, "drawn": 5, "shard": 2, "repeats": 1}]})
    hand.match(run, game(0, "error", 2, error="ValueError: [red]no[/] (a.py:3)"), game(1, "stalled"))
    said = printed(hand.log, run)
    assert "has not ended: 1 of 3 shards are finished" in said
    assert "square against none: of 2 games 1 ended with error and 1 with stalled" in said
    assert "ValueError: [red]no[/] (a.py:3)" in said


def test_names_are_no_markup(hand, game):
    run = hand.run(title="[bold]title[/]")
    hand.match(run, game(0), attacker_title="[red]x", defender_title="[/]y", block="[b]lock")
    said = printed(hand.log, run)
    for name in ("[bold]title[/]", "[red]x", "[/]y", "[b]lock"):
        assert name in said


def test_a_run_that_is_not_there(hand):
    hand.run()
    with pytest.raises(LogError, match="has no run 3"):
        printed(hand.log, 3)


def test_what_is_rare_has_a_column_only_where_there_is_any(hand, game, asked):
    run = hand.run()
    rules = Threat(norm="l2", epsilon=1.5, budget=10, objective="submit")
    early = game(0, "submitted", 3, hit_at=3, votes=(0, 0.3, 0.3), l2=1.0)
    hand.match(run, early, game(1, "banned", 7, refused=5), game(2), threat=rules, **LUCKY)
    hand.match(run, game(0), game(1), game(2, "error", 1), threat=rules, number=1, defender="other")
    said = printed(hand.log, run)
    heads = said[said.index("attacker ") :].splitlines()[:2]
    for head in ("lost", "failed", "banned", "refused"):
        assert head in " ".join(heads)
    for head in ("flagged", "insider", "won:\naccepted"):
        assert head not in " ".join(heads)
    lines = [line for line in said.splitlines() if re.match("  (none|other)", line)]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert rows[0][-4:] == ["1/3", "0", "1", "25.0"], "of 20 queries 5 were refused"
    assert rows[1][-4:] == ["–", "1", "0", "0.0"]
    assert any(cell.startswith("100.0! [") for cell in rows[1]), "what is left is an upper bound"
    assert "lost early: games that the attacker ended with queries left" in said
    run = hand.run()
    hand.match(run, game(0), game(1), threat=rules)
    assert not re.search("lost|failed|banned|refused|flagged", printed(hand.log, run))


def test_again_is_shown_where_it_says_something_else_than_the_vote(hand, game):
    run = hand.run()
    won = {"reason": "hit", "queries": 3, "hit_at": 3, "votes": (0, 1, 1), "l2": 1.0}
    hand.match(run, game(0, again=0, **won), game(1, again=0), **LUCKY)
    said = printed(hand.log, run)
    (row,) = [line for line in said.splitlines() if line.startswith("  none")]
    assert re.search(r"50\.0 \[9, 91\]\s+0\.0\s+0\.0\s+3/3", row), "by vote, base and again"
    assert "again: one more answer to the account that asked last" in said
    other = hand.run()
    hand.match(other, game(0, again=1, **won), game(1, again=0), **LUCKY)
    assert "again" not in printed(hand.log, other)


def test_a_match_of_which_every_game_failed_shows_no_figure(hand, game):
    run = hand.run()
    hand.match(run, *(game(i, "stalled", 1) for i in range(3)), defender="other")
    hand.match(run, *(game(i) for i in range(3)), number=1)
    lines = printed(hand.log, run).splitlines()
    (row,) = [line for line in lines if line.startswith("other  ")]
    assert row.split() == ["other", "failed!"]
    (_, won) = [line for line in lines if line.startswith(("  other  ", "other  "))]
    assert "failed!" in won and "0.0" not in won, "that nothing was won is no finding either"
    assert "100.0" not in next(line for line in lines if line.startswith("  other"))


def test_no_figure_is_folded_on_a_narrow_console(play):
    attackers = [{"name": "square", "p": 0.3}, "random-search", "bi-square", "op-square"]

    def cells(width: int) -> dict[str, list[str]]:
        said = printed(log, 1, width, terminal=True)
        rows = [line.split() for line in said.splitlines() if re.match(r"(none|snd)  ", line)]
        return {
            name: [cell for row in rows if row[0] == name for cell in row[1:]] for name in ("none", "snd")
        }

    with open_log(play(attackers=attackers), create=False) as log:
        wide = {name: found[-4:] for name, found in cells(200).items()}
        assert any(words.TO in cell for cell in wide["snd"]) and any("*" in cell for cell in wide["none"])
        for width in (50, 60, 80):
            for name, found in cells(width).items():
                rest = iter(found)
                assert all(cell in rest for cell in wide[name]), f"{wide[name]} are in {found}, in order"


def test_which_figures_are_votes_is_said(hand, game):
    run = hand.run()
    rules = Threat(norm="l2", epsilon=1.5, budget=10, objective="submit")
    lucky = game(0, "budget", 10, hit_at=3, votes=(0, 0.3, 0.3), l2=1.0)
    hand.match(run, game(0), game(1), threat=rules)
    hand.match(run, lucky, game(1), threat=rules, number=1, **(LUCKY | {"defender": "snd"}))
    said = " ".join(printed(hand.log, run).split())
    assert "by answered, or by vote where the same image may get another answer; * the least" in said
    assert "left: percent of the games drawn; won: of the games played" in said
