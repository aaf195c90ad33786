"""The page: whole, alone, well-formed, and safe whatever the names are."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import LogError, open_log
from arena.report.html import render, write_report
from arena.report.summary import read_rows
from arena.report.words import between, percent, span
from arena.report.words import number as written
from arena.statistics import wilson

VOID = {"meta", "img", "br", "hr", "link", "input"}
SVG_ALONE = {"path", "use", "line", "rect", "circle"}


class Page(HTMLParser):
    """Checks nesting while it gathers ids, references, classes, and the text of elements of a class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag, attrs):
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute twice in {tag} {attrs}"
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.links += [
            values[key] for key in ("src", "href", "xlink:href", "action", "data") if key in values
        ]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.append((self.open[-1][1] or self.open[-1][0], data.strip()))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [values for name, values in self.tags if name == tag]


def page_of(log, run: int | None = None, dirs: tuple[Path, ...] = ()) -> tuple[str, Page]:
    text = render(log, run, dirs)
    return text, Page(text)


@pytest.fixture
def played(play):
    with open_log(play(), create=False) as log:
        yield log


def test_it_needs_nothing_beside_it(played):
    text, page = page_of(played)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "form", "base")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert "//" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)


def test_ids_are_there_once_and_references_lead_to_them(played):
    text, page = page_of(played)
    assert len(page.ids) == len(set(page.ids))
    wanted = {link[1:] for link in page.links if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", text)
    )
    assert wanted, "charts refer to their clip paths"
    assert wanted <= set(page.ids)


def test_it_can_be_read_without_seeing_it(played):
    _, page = page_of(played)
    assert all(values.get("scope") in ("col", "row", "colgroup", "rowgroup") for values in page.of("th"))
    assert all(values.get("alt") for values in page.of("img"))
    images = [values for values in page.of("div") if values.get("role") == "img"]
    assert len(images) == 4, "charts of queries and of clean images for each defender"
    said = [values["aria-label"] for values in images]
    assert re.search(
        r"none has left, by answered, by queries. square: [\d.]+ % at 5, [\d.]+ % at 10", said[0]
    )
    assert re.search(
        r"snd has left, from answered to vote, by queries. square: [\d.]+–[\d.]+ % at 5", said[1]
    )
    assert ("html", {"lang": "en"}) in page.tags


def test_the_matrix_holds_the_accuracy_left(played):
    _, page = page_of(played)
    cells = [values for values in page.of("td") if "cell" in values.get("class", "")]
    assert [values["class"] for values in cells] == ["cell worst", "cell ends"], "no rank between two ends"
    none, snd = read_rows(played, 1)
    assert (
        f"against none: {percent(none.headline.value)} % {span(none.headline, 1)} left" in cells[0]["title"]
    )
    assert cells[0]["style"] == f"--v:{none.headline.value:.3f}"
    low, high = (percent(snd.left[30][verdict].value) for verdict in ("answered", "vote"))
    assert f"against snd: {low} % by answered to {high} % by vote" in cells[1]["title"]
    assert "style" not in cells[1]


def test_every_number_of_a_hand_written_match(hand, game):
    run = hand.run()
    won = game(0, "hit", 3, hit_at=3, accepted_at=3, votes=(0, 0.6, 0.6), base=True, l2=1.0)
    lost = game(3, "clean", 0, votes=(1, 1, 1))
    hand.match(
        run, won, game(1, refused=7), game(2, insider=5), lost, facts={"defenders": [{"temperature": 1.25}]}
    )
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    for words in (
        "none answered 75.0 [30, 95] 50.0 [15, 85] 50.0 [15, 85]",
        "none 3 33.3 [6, 79] 20.0 33.3 3 3 10 7.7 ∞",
        "none 1 4 1 2 1 23 7 5 0:00:00",
        "temperature 1.25",
    ):
        assert words in said, words


def test_what_a_defended_classifier_is_worth_stands_beside_its_matches(hand, game):
    run = hand.run()
    match = hand.match(run, game(0), game(1))
    hand.log.record_utility(match, hand.utility())
    hand.match(run, game(0), number=1, defender="unknown")
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    for words in (
        "square none 90.0 12.5 100.0 [34, 100]",
        "unknown – – 100.0 [21, 100]",
        "none 1,000 90.0 [88, 92] 1.1 2.2 3.33 97.50 1.23 2.34 0.25 "
        "1.25 [1.10, 1.40] 4.2 64 12.5 [11.1, 13.3] 0.31 5.5 40.6 0.55",
    ):
        assert words in said, words


def test_how_far_queries_went_is_told_in_l2(hand, game):
    run = hand.run()
    hand.match(run, game(0, asked_l2=1.0), game(1, asked_l2=2.0), game(2, "clean", 0))
    hand.match(run, game(0), number=1, defender="unknown")
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    assert "How far queries went" in said
    assert "none 1.5 1.65" in said, "of games that had a query"
    silent = hand.run()
    hand.match(silent, game(0))
    _, page = page_of(hand.log, silent)
    assert "How far queries went" not in " ".join(data for _, data in page.texts)


def test_without_utilities_there_are_no_columns_of_them(hand, game):
    run = hand.run()
    hand.match(run, game(0))
    text, _ = page_of(hand.log, run)
    assert "ECE, 15 bins" not in text
    assert "cost at" not in text


def test_all_that_share_the_worst_case_are_outlined(hand, game):
    run = hand.run()
    for number, name in enumerate(("one", "two", "three")):
        won = [game(0, "hit", 3, hit_at=3, votes=(0, 1, 1), l2=1.0)] * (number < 2)
        hand.match(run, *won, game(1), number=number, attacker=name, attacker_title=name)
    _, page = page_of(hand.log, run)
    cells = [values["class"] for values in page.of("td") if "cell" in values.get("class", "")]
    assert cells == ["cell worst", "cell worst", "cell"]


def test_names_are_text(hand, game):
    evil = "<script>alert('x')</script>&\"'"
    resolved = {"matches": [{"games": 1, "shard": 1, "repeats": 1, "world": {"dataset": {"name": evil}}}]}
    run = hand.run(
        title=evil, scenario=evil, device=evil, versions={evil: evil}, resolved=resolved, ended=False
    )
    hand.match(
        run,
        game(0, "hit", 3, hit_at=3, votes=(0, 1, 1), l2=1),
        game(1, "error", error=evil),
        attacker_title=evil,
        defender_title=evil + "2",
        attacker_params={evil: evil},
        block=evil,
        classifier=evil,
        facts={evil: evil, "defenders": [{evil: evil}]},
    )
    text, page = page_of(hand.log, run)
    assert not page.of("script")
    assert "<script" not in text
    assert (None, "title") not in page.tags
    assert page.texts.count(("h1", evil)) == 1, "it is read back as it was given"


def test_an_unfinished_run_says_so_at_the_top(hand, game):
    run = hand.run(
        ended=False, resolved={"matches": [{"games": 6, "drawn": 7, "shard": 2, "repeats": 1}] * 2}
    )
    hand.match(run, game(0), game(1))
    text, page = page_of(hand.log, run)
    said = "This run has not ended: 1 of 8 shards are finished, and only those are counted here."
    assert ("notice", said) in page.texts
    assert text.index(said) < text.index("<section")
    hand.log.end_run(run)
    assert said not in render(hand.log, run)


def test_a_run_without_matches_and_a_match_without_games(hand):
    run = hand.run(ended=False)
    assert "No match has begun." in render(hand.log, run)
    hand.match(run)
    text, page = page_of(hand.log, run)
    assert "No game was won." in text
    assert not page.of("svg")


def test_games_that_broke_are_told_with_their_error(hand, game):
    run = hand.run()
    hand.match(run, game(0, "error", 2, error="KeyError: 3 (mine.py:7)"), game(1))
    text, page = page_of(hand.log, run)
    assert "square against none: of 2 games 1 ended with error; the first: KeyError: 3 (mine.py:7)" in text
    assert ("trouble", "1") in page.texts


def test_a_match_that_the_classifier_lost_wholly(hand, game):
    run = hand.run()
    hand.match(run, game(0, "clean", 0, votes=(1, 1, 1)), game(1, "clean", 0, votes=(1, 1, 1)))
    _, page = page_of(hand.log, run)
    assert ("b", "0.0") in page.texts
    assert not [data for _, data in page.texts if "nan" in data.lower().split()]


@pytest.fixture(scope="module")
def near(play):
    """A page of objective minimum, and its rows."""
    path = play(
        attackers=[{"name": "hop-skip-jump", "initial_probes": 5}],
        threat={"norm": "l2", "epsilon": 4, "budget": 60, "feedback": "label", "objective": "minimum"},
        at=[20, 40],
        radii=[1.5],
    )
    with open_log(path, create=False) as log:
        text, page = page_of(log)
        return text, page, read_rows(log, 1)


def test_distances_head_the_page_under_objective_minimum(near):
    text, page, rows = near
    cells = [values for values in page.of("td") if "cell" in values.get("class", "")]
    assert [values["class"] for values in cells] == ["cell worst"] * 2
    for row, values in zip(rows, cells, strict=True):
        said = f"against {row.match.info.defender}: {written(row.distance_median)} "
        assert said in values["title"]
    assert text.index("Median distance at the budget") < text.index("<summary>Accuracy left</summary>")
    said = " ".join(data for _, data in page.texts)
    none, snd = (row.distances for row in rows)
    for own in (none, snd):
        lucky = [written(own.answered[at].value) for at in own.counts]
        medians = [f"{written(m.value)} {between(m)}" for m in own.median.values()]
        beside = [f" answered {m}" * (m != t.split()[0]) for m, t in zip(lucky, medians, strict=True)]
        line = " ".join(map("".join, zip(medians, beside, strict=True)))
        assert f"median ℓ2, by {own.verdict} {line}" in said
    for (radius, verdict), name in {(1.5, "answered"): "by all", (4.0, "answered"): "by all"}.items():
        shares = [rates[verdict] for rates in none.within[radius].values()]
        line = " ".join(f"{percent(r.value)} {span(r)}" for r in shares)
        assert f"≤\xa0{written(radius)}, {name} {line}" in said


def test_distances_and_success_are_drawn_and_told(near):
    _, page, rows = near
    told = [v["aria-label"] for v in page.of("div") if v.get("role") == "img"]
    drawn = sum(any(m.value < math.inf for m in row.distances.median.values()) for row in rows)
    assert len(told) == drawn + 2 * 2 + 2 + 2, (
        "finite medians, two radii, the accuracy left, and clean images, of each defender"
    )
    first = rows[0].distances.median
    medians = ", ".join(f"{written(m.value)} at {at}" for at, m in first.items())
    assert f"Median distance that none leaves, by queries. hop-skip-jump: {medians}." in told
    assert sum("Success against snd within ℓ2 ≤ 1.5 by vote" in said for said in told) == 1


def test_a_page_of_distances_is_as_sound_as_any(near):
    text, page, _ = near
    assert len(page.ids) == len(set(page.ids))
    assert all(values.get("scope") in ("col", "row", "colgroup", "rowgroup") for values in page.of("th"))
    assert "//" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)


def test_no_start_is_a_rate(hand, game):
    run = hand.run()
    hand.match(run, game(0, "no-start", 3), game(1), game(2), game(3), game(4, "clean", 0))
    _, page = page_of(hand.log, run)
    assert "1 25.0 %" in " ".join(data for _, data in page.texts)


def test_flagged_queries_have_a_table(hand, game, asked):
    run = hand.run()
    queries = [asked("gradient", 40, 30), asked("start", 10, 1, 41), asked("candidate", 10, 9, 51)]
    match = hand.match(run, game(0), defender="predcoin", queries=queries)
    hand.log.record_utility(match, hand.utility())
    hand.match(run, game(0), number=1)
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    ones = "one query a game, of 5 one query a game, of 10"
    assert f"clean images {ones} estimation all queries gradient candidate start" in said
    one = "100.0 [21, 100]"
    assert f"square predcoin 3.33 {one} {one} 78.0 66.7 75.0 90.0 10.0" in said
    run = hand.run()
    hand.match(run, game(0))
    text, _ = page_of(hand.log, run)
    assert "Flagged queries" not in text


def test_targets_are_shown(play):
    threat = {"epsilon": 0.9, "budget": 60, "goal": "targeted", "targets": "next"}
    with open_log(play(threat=threat, defenders=["none"]), create=False) as log:
        text, _ = page_of(log)
        (row,) = read_rows(log, 1)
    assert "targeted (next)" in text
    assert len(row.curve.turn), "a ball this large holds targets"
    for label, target, answered in re.findall(r"label (\d), target (\d), answered (\d)", text):
        assert int(target) == (int(label) + 1) % 10 == int(answered)
    assert "target " in text


def test_a_file_that_cannot_be_written(hand, tmp_path):
    hand.run()
    with pytest.raises(ValueError, match=r"cannot be written to .*nowhere.*: No such file"):
        write_report(hand.log, tmp_path / "nowhere" / "x.html")
    with pytest.raises(ValueError, match=r"cannot be written to .*: it is a folder"):
        write_report(hand.log, tmp_path)


def test_the_command(play, tmp_path):
    log = play()
    done = CliRunner().invoke(app, ["report", str(log)])
    assert done.exit_code == 0
    assert done.output.split() == ["report:", str(log.with_suffix(".html"))]
    other = tmp_path / "other.html"
    assert CliRunner().invoke(app, ["report", str(log), "--out", str(other), "--run", "1"]).exit_code == 0
    assert other.read_bytes() == log.with_suffix(".html").read_bytes(), "the same log gives the same page"


@pytest.mark.parametrize(
    ("run", "said"), [(["--run", "5"], "has no run 5; it holds 1"), ([], "there is no log at")]
)
def test_the_command_says_what_is_wrong_in_a_sentence(play, tmp_path, run, said):
    log = play() if run else tmp_path / "missing.db"
    done = CliRunner().invoke(app, ["report", str(log), *run])
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_a_log_without_a_run(tmp_path):
    with open_log(tmp_path / "empty.db") as log, pytest.raises(LogError, match=r"empty\.db holds no run"):
        render(log)


LUCKY = {"verdict": "vote", "answers_are_facts": False}


def test_what_was_found_stands_on_top(hand, game):
    run = hand.run()
    hand.match(run, game(0), game(1))
    text, page = page_of(hand.log, run)
    said = "Accuracy left after 10 queries against square, with 95 % intervals: none 100.0 % [34, 100]."
    assert ("found", said) in page.texts
    assert text.index(said) < text.index("<section")
    assert "Objective first, the rule of most papers: a game ends at its first hit." in text
    hand.match(run, game(0), game(1), number=1, block="second")
    text, page = page_of(hand.log, run)
    assert text.index(said) < text.index("<section") and page.texts.count(("found", said)) == 2


def test_the_vote_heads_a_cell_with_answered_small_beside_it(hand, game, threat):
    run = hand.run()
    rules = threat.model_copy(update={"objective": "submit"})
    won = game(0, "submitted", 3, hit_at=3, votes=(0, 0.2, 0.2), l2=1.0)
    hand.match(run, won, game(1), threat=rules, **LUCKY)
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    low, high = (percent(end) for end in wilson(0.8 + 1, 2))
    assert f"square 90.0 [{low}, {high}] answered 50.0" in said
    assert "1 of 2" in said and "ended early and lost its vote" in said
    (cell,) = [values for values in page.of("td") if "cell" in values.get("class", "")]
    assert (cell["class"], cell["style"]) == ("cell worst", "--v:0.900")
    assert f"90.0 % [{low}, {high}] left by vote" in cell["title"]


def test_a_papers_headline_is_kept_and_said(hand, game):
    run = hand.run()
    won = game(0, "hit", 3, hit_at=3, votes=(0, 0.2, 0.2), l2=1.0)
    hand.match(run, won, game(1), answers_are_facts=False, verdict="answered")
    text, page = page_of(hand.log, run)
    assert "This page keeps the paper&#39;s headline: what is left by answered." in text
    (cell,) = [values for values in page.of("td") if "cell" in values.get("class", "")]
    assert cell["class"] == "cell", "objective first makes no rank of it"
    assert "50.0 % [9.5, 90.5] left by answered" in cell["title"]


def test_cells_of_failed_attackers_look_weak(hand, game):
    run = hand.run()
    for number, failed in enumerate((3, 1)):
        games = [game(i, "error", 1, error="no") for i in range(failed)] + [game(3)] * (3 - failed)
        name = f"defender-{number}"
        hand.match(run, *games, number=number, defender=name, defender_title=name)
    text, page = page_of(hand.log, run)
    cells = [values for values in page.of("td") if "cell" in values.get("class", "")]
    assert [values["class"] for values in cells] == ["cell weak", "cell weak worst"]
    assert not any("style" in values for values in cells)
    assert ("b", "failed") in page.texts and ("td", "failed") in page.texts
    assert len([v for v in page.of("div") if v.get("role") == "img"]) == 1, "no curve of what failed"
    assert ("b", "≤ 100.0") in page.texts
    assert "1 of 3 games failed" in cells[1]["title"]
    assert "Hatched: attackers failed" in text


def test_again_has_a_line_of_its_own_where_it_differs(hand, game):
    run = hand.run()
    won = {"reason": "hit", "queries": 3, "hit_at": 3, "votes": (0, 1, 1), "l2": 1.0}
    hand.match(run, game(0, again=0, **won), game(1, again=0), **LUCKY)
    _, page = page_of(hand.log, run)
    said = " ".join(data for _, data in page.texts)
    assert "again 100.0 [34, 100] 100.0 [34, 100]" in said, "of those who ask again none is fooled"
    assert "vote 100.0 [34, 100] 50.0 [9, 91] 50.0 [9, 91]" in said


def test_defenders_have_a_table_where_the_log_tells_of_them(played):
    page, _ = page_of(played)
    table = page.partition("<h3>Defenders</h3>")[2].partition("</table>")[0]
    assert 'scope="row">none</th><td class="text">nothing</td>' in table
    assert "<h3>Threat</h3>" in page
