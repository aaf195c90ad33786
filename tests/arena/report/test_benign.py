"""Benign losses on pages and terminals: the chart's marks are where the figures say, and what is missing is
said."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from arena.evaluation.benign.losses import BenignLoss
from arena.league.prices import benign_lost
from arena.league.rates import Rate
from arena.log import open_log
from arena.report.benign_section import benign_section
from arena.report.benign_tables import benign_table, lost_table
from arena.report.board_page import render_board
from arena.report.html import render
from arena.report.pareto import Point, best, legend, pareto_chart, x, y
from arena.report.terminal import print_results
from arena.rules.threat import Threat
from arena.running.runner import Run
from arena.scenario.files import parse_scenario
from tests.arena.report import made_boards as made


def loss(client: str, history: str, refused: int, queries: int = 100, **changes: Any) -> BenignLoss:
    some = 10 if refused else 0
    values = (client, history, 10, queries, 1, refused, 0, 0, 0, 0.0, some, 0, 0, 0, some)
    return BenignLoss(*values, **changes)


def point(label: str, benign: float, taken: float) -> Point:
    return Point(label, Rate(benign, benign, benign), Rate(taken, taken, taken))


def test_the_front_holds_those_that_no_other_beats() -> None:
    points = [
        point("none", 0.0, 0.9),
        point("snd", 0.05, 0.9),
        point("blacklight", 0.6, 0.1),
        point("both", 0.3, 0.4),
        point("worse", 0.4, 0.4),
        point("twin", 0.3, 0.4),
    ]
    assert [p.label for p in best(points)] == ["none", "both", "twin", "blacklight"]


def test_marks_and_intervals_lie_where_the_figures_say() -> None:
    points = [
        Point("none", Rate(0.0, 0.0, 0.04), Rate(0.9, 0.8, 0.95)),
        Point("blacklight", Rate(0.5, 0.4, 0.6), Rate(0.25, 0.2, 0.35)),
    ]
    drawn = str(pareto_chart(points))
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert found == [(f"{x(p.benign.value, 1.0):.1f}", f"{y(p.taken.value):.1f}") for p in points]
    assert (x(0.0, 1.0), x(1.0, 1.0), y(0.0), y(1.0)) == (56, 330, 186, 12)
    assert f'x1="{x(0.4, 1.0):.1f}" x2="{x(0.6, 1.0):.1f}" y1="{y(0.25):.1f}" y2="{y(0.25):.1f}"' in drawn
    assert f'y1="{y(0.2):.1f}" y2="{y(0.35):.1f}"' in drawn
    front = re.search(r'<polyline points="([^"]+)"', drawn)
    assert front and front[1] == " ".join(f"{cx},{cy}" for cx, cy in found)
    small = [point("none", 0.0, 0.9), point("snd", 0.08, 0.5)]
    assert f'cx="{x(0.08, 0.1):.1f}"' in str(pareto_chart(small)), "the axis ends at 10 %"


def test_marks_of_many_defenders_differ_in_colour_or_shape() -> None:
    marks = [str(mark) for _, mark in legend([point(str(i), 0.1, 0.1) for i in range(28)])]
    assert len(set(marks)) == 28


def test_the_price_is_the_mean_over_clients_after_the_longest_history_of_others() -> None:
    known = [
        loss("single", "empty", 0),
        loss("lime", "empty", 50),
        loss("single", "benign-1000", 10),
        loss("lime", "benign-1000", 90),
        loss("single", "poison-1000", 100),
        loss("lime", "poison-1000", 100),
    ]
    assert benign_lost(known).value == 0.5
    assert benign_lost(known[:2]).value == 0.25
    assert benign_lost(known[4:]).value != benign_lost(known[4:]).value


def test_a_defender_that_refuses_and_met_no_benign_clients_is_named() -> None:
    own = {"none": [loss("single", "empty", 0)], "blacklight": [], "piha": []}
    section = benign_section(own, {}, ["blacklight", "piha"])
    assert section is not None and section.chart is None
    assert section.unmeasured.startswith("blacklight and piha refuse or flag queries; what they take")
    assert "benign = 20" in section.unmeasured
    assert benign_section({"none": []}, {}, []) is None


def test_the_tables_say_what_is_lost() -> None:
    known = [("blacklight", [loss("single", "empty", 0), loss("lime", "poison-1000", 90)])]
    text = io.StringIO()
    console = Console(file=text, width=120)
    console.print(lost_table(known))
    full, same = benign_table(known)
    console.print(full)
    said = " ".join(text.getvalue().split())
    assert "after nothing" not in said.partition("defender, after")[0]
    assert "1,000 near copies of their images – 90.0" in said
    assert "lime 90.0 [" in said
    assert "sessions 10" in same and "queries 100" in same


def test_a_board_shows_losses_the_chart_and_what_was_not_measured() -> None:
    page = render_board(made.board())
    assert page.count("<h3>What benign clients lose</h3>") == 1
    assert "benign queries lost" in page
    assert 'class="pareto"' in page
    assert "snd (sigma=0.01) refuses or flags queries" in page
    assert "optimiser-nes" in page


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of no defense and a refuser, with benign clients and without."""
    path = tmp_path_factory.mktemp("benign") / "log.db"
    table = {
        "games": 3,
        "utility": 20,
        "attackers": ["random-search"],
        "defenders": ["none", "blacklight"],
        "threat": {"epsilon": 0.2, "budget": 8},
    }
    some = {"sessions": 3, "clients": ["single", "repeats"], "histories": ["empty", "poison-6"]}
    with open_log(path) as opened:
        for title, benign in (("with", some), ("without", 0)):
            scenario = parse_scenario({**table, "title": title, "benign": benign}, title, path.parent, title)
            Run(scenario, device="cpu", prepared=path.parent / "prepared").play(opened, Watcher())
    return path


class Watcher:
    def match(self, match: Any, games: int) -> None: ...
    def played(self, queries: int) -> None: ...
    def failed(self, match: Any, games: int, said: str) -> None: ...
    def ended(self, games: int, skipped: bool) -> None: ...


def test_a_run_shows_what_it_measured_and_says_what_it_did_not(log: Path) -> None:
    with open_log(log, create=False) as opened:
        page, other = render(opened, 1), render(opened, 2)
        text = io.StringIO()
        print_results(Console(file=text, width=140), opened, 1)
    table = page[page.index('<table class="benign">') :]
    cells = re.findall(r"<td><b>([^<]+)</b>", table[: table.index("</table>")])
    assert cells == ["0.0", "0.0", "0.0", "90.0", "100.0", "100.0"]
    assert "near copies of their images" in table and 'class="pareto"' in page
    assert "was not measured" not in page
    assert 'class="benign"' not in other
    assert (
        "blacklight refuses or flags queries; what it takes from clients that attack nobody was not" in other
    )
    said = " ".join(text.getvalue().split())
    assert "lost to benign clients, in percent of their queries" in said
    assert "6 near copies of their images 100.0 100.0" in said


@pytest.mark.parametrize(("epsilon", "shares"), [(3.0, ["30.0", "10.0"]), ("inf", [])])
def test_under_minimum_attackers_get_the_share_of_images_within_epsilon(
    hand: Any, game: Any, epsilon: Any, shares: list[str]
) -> None:
    rules = Threat(norm="l2", epsilon=epsilon, budget=10, objective="minimum")
    run, some = hand.run(), {"sessions": 10}
    for number, (defender, step) in enumerate([("none", 1), ("blacklight", 3)]):
        won = [game(i, hit_at=1, votes=(0, 1, 1), base=True, l2=step * (i + 1)) for i in range(10)]
        match = hand.match(run, *won, threat=rules, defender=defender, number=number, benign=some)
        hand.log.record_benign(match, loss("single", "empty", 5 * number))
    page = render(hand.log, run)
    assert re.findall(r"attackers get ([\d.]+) %", page.partition("Best in")[0]) == shares
    assert ("within ℓ2 3, whatever" in page, "would need a finite epsilon" in page) == (
        bool(shares),
        not shares,
    )


def test_a_board_of_distances_says_why_there_is_no_chart() -> None:
    own = {"none": [loss("single", "empty", 0)], "blacklight": [loss("single", "empty", 50)]}
    section = benign_section(own, {}, [], chartless="No chart.")
    assert section is not None and section.chartless == "No chart." and section.chart is None
    drawn = benign_section(own, dict.fromkeys(own, Rate(0.5, 0.4, 0.6)), [], chartless="No chart.")
    assert drawn is not None and drawn.chartless == "" and drawn.chart is not None
