"""A board's page as text: its parts, their order, and that it needs nothing else."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import replace

import pytest

from arena.league.board import Order
from arena.league.rates import Median, Rate
from arena.report.board_page import render_board
from arena.rules.threat import Threat
from tests.arena.report import made_boards as made


@pytest.fixture(scope="module")
def page() -> str:
    return render_board(made.board())


def visible(page: str) -> str:
    """Its text without markup."""
    body = re.sub(r"<(style|script|svg).*?</\1>", "", page[page.index("<body>") :], flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_what_was_found_stands_on_top_and_the_parts_follow_in_order(page: str) -> None:
    text = visible(re.sub(r"<nav.*?</nav>", "", page, flags=re.S))
    parts = (
        "Against the strongest of its attackers snd",
        "Attackers against defenders at 1,000 queries",
        "worst case",
        "clean accuracy",
        "delay at 1 row",
        "weak-attack",
        "Logs contradict each other here",
        "Not played at this count: eot (repeats=5) against aaa-sine",
        "Worst case of each defender",
        "Ranks and ratings",
        "Equilibrium",
        "Audit",
        "Found",
        "Not checked",
        "Looked at, nothing found",
        "The same at 100 queries",
        "Agents",
        "Facts to reproduce each row",
        "Glossary",
    )
    start = 0
    for part in parts:
        start = text.find(part, start)
        assert start >= 0, part


def test_it_needs_no_network_and_no_other_file(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|data:|["')])""", page)
    assert "http://" not in page and "https://" not in page and "@import" not in page


def test_every_id_is_there_once_and_every_reference_leads_somewhere(page: str) -> None:
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [name for name, count in ids.items() if count > 1] == []
    for wanted in re.findall(r'(?:href="#|popovertarget=")([^"]+)"', page):
        assert wanted in ids, wanted


def test_a_cell_shows_its_figure_interval_lucky_verdict_and_findings(page: str) -> None:
    cell = re.search(r'<td class="cell worst"[^>]*title="square against snd[^>]*>.*?</td>', page, re.S)
    assert cell
    for part in ("<b>64.0</b>", "[57.1, 70.3]", "answered 54.0", "still-improving", "popovertarget"):
        assert part in cell[0]
    assert "In 41 of 60 games" in cell[0], "told on hover"


def test_withheld_failed_and_open_cells_look_so_and_say_so(page: str) -> None:
    def title(text: str) -> str:
        found = re.search(rf'<td class="([^"]*)"[^>]*title="{re.escape(text)}[^>]*>(.*?)</td>', page, re.S)
        assert found, text
        return f"{found[1]}: {found[2]}"

    withheld = title("boundary against aaa-sine")
    assert "withheld" in withheld and "no rank" in withheld and "mark grave" in withheld
    ends = title("boundary against snd")
    assert "ends" in ends and "answered</small> <b>40.0" in ends and "vote</small> <b>50.0" in ends
    failed = title("boundary against none")
    assert "weak" in failed and "<b>failed</b>" in failed and "190 of 190 failed" in failed
    assert title("eot (repeats=5) against aaa-sine") == "none: –"


def test_a_card_tells_all_figures_of_its_cell(page: str) -> None:
    card = re.search(
        r'<div popover class="card" id="[^"]*"><h4>boundary against aaa-sine</h4>.*?</div>\n', page, re.S
    )
    assert card
    whole = page[card.start() : page.index("close</button>", card.start())]
    text = visible(f"<body>{whole}")
    for part in (
        "vote 71.0 [64.4, 76.8]",
        "answered 61.0",
        "queries refused 3.1 %",
        "insider evaluations a game 12",
        "No rank: weak-attack was found.",
        "3 of 200 games came out otherwise",
        "weak-attack: boundary against aaa-sine: Plain noise leaves 40.0 %",
        "duplicates: boundary: 52 %",
        "one.db, run 1, match 303",
    ):
        assert part in text, part
    assert "<polyline" in whole
    none = page[page.index("<h4>square against none</h4>") :]
    assert "not logged" in visible("<body>" + none[: none.index("close</button>")])


def test_what_was_not_checked_is_never_among_what_is_clear(page: str) -> None:
    text = visible(page)
    unchecked = text[text.index("Not checked") : text.index("Looked at, nothing found")]
    clear = text[text.index("Looked at, nothing found") : text.index("The same at 100")]
    assert (
        "frozen-draws (would be grave): it needs play: arena audit --replay. (4 cells or agents)" in unchecked
    )
    assert "frozen-draws" not in clear and "broken-control" in clear and "broken-control" not in unchecked


def test_the_equilibrium_is_a_picture_with_words(page: str) -> None:
    assert page.count('<svg class="bar"') == 2 * 4, "two members a side, at two counts"
    assert 'width="74.4" height="11"' in page, "a share of 62 %"
    text = visible(page)
    for part in (
        "one member is drawn per client for the whole game",
        "duality gap 3.1e-12",
        "boundary (it has not",
    ):
        assert part in text


def test_agents_have_their_figures_parameters_and_charts(page: str) -> None:
    part = page[page.index("<h3>Agents</h3>") :]
    assert part.count('<section class="agent"') == 8
    assert part.count('<svg class="curves"') == 4, "a chart a defender"
    first = visible("<body>" + part[: part.index("</section>")])
    for told in ("square attacker rank 1–2 leaves 90.0", "rating 1,600", "Parameters p 0.3"):
        assert told in first, told


def test_facts_name_the_command_and_every_match_once(page: str) -> None:
    facts = page[page.index('<section id="facts">') :]
    assert "arena play hand.toml --log one.db" in facts and facts.count('<tr><th scope="row"') == 15
    assert f'title="{"3f9c" * 16}"' in facts and "3f9c3f9c3f9c…" in facts


def test_what_cannot_be_said_says_why() -> None:
    bare = replace(
        made.matrix(),
        worst=[],
        defender_ranks=[],
        attacker_ranks=[],
        ratings=[],
        tests=[],
        equilibrium=None,
        findings=[],
        utilities={},
        unsaid={"worst": "no cell may be ranked", "equilibrium": "no two agents have met all others"},
    )
    text = visible(render_board(made.board(bare)))
    assert "The worst case: not said, as no cell may be ranked." in text
    assert "The equilibrium: not said, as no two agents have met all others." in text
    assert "Audit" not in text and "clean accuracy" not in text.partition("Glossary")[0]


def test_distances_head_the_cells_where_they_count() -> None:
    matrix = made.matrix(3, 3)
    cells = {
        pair: replace(cell, distance=Median(0.5 + i, 0.25, math.inf))
        for i, (pair, cell) in enumerate(matrix.cells.items())
    }
    near = replace(
        matrix,
        by="distance",
        cells=cells,
        threat=Threat(norm="l2", epsilon="inf", objective="minimum", budget=9),
    )
    page = render_board(made.board(near))
    assert "Median ℓ2 distance at 1,000 queries" in page and "<b>0.5</b>" in page and "[0.25, ∞]" in page


def test_ranks_against_each_agent_are_a_table() -> None:
    matrix = made.matrix(3, 3)
    order = Order("defender", "square", made.ranks(matrix.defenders, "it lacks a cell"), [])
    text = visible(render_board(made.board(replace(matrix, orders=[order]))))
    assert (
        "Ranks of defenders against each attacker defender square none 1–2 snd (sigma=0.01) 1–2 predcoin –"
        in text
    )


def test_names_of_strangers_are_no_markup() -> None:
    odd = "<script>alert(1)</script>"
    matrix = made.matrix(3, 3)
    cells = {(odd if a == "square" else a, d): cell for (a, d), cell in matrix.cells.items()}
    for pair, cell in cells.items():
        cells[pair] = replace(cell, attacker=pair[0])
    changed = replace(matrix, cells=cells, attackers=[odd, *matrix.attackers[1:]], dataset=odd)
    page = render_board(made.board(changed, title=odd, sentences=[odd]))
    assert odd not in page and "&lt;script&gt;" in page


def test_a_rate_without_games_is_no_figure() -> None:
    matrix = made.matrix(3, 3)
    empty = Rate(math.nan, 0, 1)
    cell = made.cell(0, 0, 10, "square", "none", left=dict.fromkeys(("answered", "vote", "base"), empty))
    page = render_board(made.board(replace(matrix, cells={**matrix.cells, ("square", "none"): cell})))
    assert not re.findall(r"\bnan\b", re.sub(r"<script.*?</script>", "", page.lower(), flags=re.S))


def test_a_large_board_is_small_and_soon_there() -> None:
    started = time.process_time()
    page = render_board(made.board(*(made.matrix(20, 15, at) for at in (1000, 250, 100))))
    assert time.process_time() - started < 8
    assert len(page.encode()) < 2_200_000, "with pictures it must stay below 3 MB"


def test_words_in_backticks_are_code_and_an_agent_is_told_each_kind_of_finding_once() -> None:
    matrix = made.matrix(3, 3)
    first = replace(matrix.findings[0], evidence="Read `vote` & not `<b>`")
    findings = [first, *(replace(first, defender=d) for d in matrix.defenders if d != first.defender)]
    page = render_board(made.board(replace(matrix, findings=findings)))
    assert "Read <code>vote</code> &amp; not <code>&lt;b&gt;</code>." in page
    part = page[page.index("<h3>Agents</h3>") :]
    card = visible("<body>" + part[: part.index("</section>")])
    assert card.count("still-improving:") == 1 and "And 2 more like it." in card
