"""What README and docs show is run, and what they list is there.

What plays for longer than a second or two is slow: `make test-all` runs it.
"""

from __future__ import annotations

import re
import sqlite3
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import arena
from arena.classifiers import ClassifierSpec, load_classifier
from arena.cli.app import app
from arena.datasets import DATASETS, DatasetSpec, load_dataset
from arena.players import Games, Needs, Response
from arena.players.registry import names
from arena.rules.threat import GrantedResources, Threat
from arena.scenario.blocks import Block
from arena.scenario.files import parse_scenario

ROOT = Path(__file__).parent.parent
DESIGN = "docs/design.md"  # it sketches what is to come, too: nothing in it is run
PAGES = (
    "README.md",
    *(name for path in sorted((ROOT / "docs").glob("*.md")) if (name := f"docs/{path.name}") != DESIGN),
)
SCENARIOS = {path.stem for path in (ROOT / "scenarios").glob("*.toml")}
PUBLISHED = {name for name in SCENARIOS if re.search(r"^rnd-|-(table|figure)-\d+$", name)}


@cache
def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """A page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.S)


def block(name: str, language: str, start: str) -> str:
    """The one that holds `start`."""
    (found,) = (b for b in blocks(name, language) if start in b)
    return found


def files(name: str) -> dict[str, str]:
    """A page's python blocks that are files: their first line says which."""
    named = {b: re.match(r"# (\w+\.py)\n", b) for b in blocks(name, "python")}
    return {match[1]: b for b, match in named.items() if match}


def section(name: str, title: str) -> str:
    """A page from a heading to the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page(name), re.S | re.M)
    return found


def keys(text: str) -> list[str]:
    """What the first column of a text's tables names in code."""
    rows = re.findall(r"^\|((?: `[^`|]+`,?)+) \|", text, re.M)
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the files of all pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in PAGES:
        for file, text in files(name).items():
            (tmp_path / file).write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    data = load_dataset("digits")
    return {
        "classifier": load_classifier(ClassifierSpec(network="digits-cnn"), data).module,
        "images": data.games.images[:60],
        "labels": data.games.labels[:60],
    }


# All pages; what the README shows in Python is run by test_readme.py


@pytest.mark.parametrize("name", [n for n in PAGES[1:] if len(blocks(n, "python")) > len(files(n))])
def test_the_examples_in_python_run(
    name: str, here: Path, digits: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if name == "docs/log.md":
        (here / "example.db").symlink_to(request.getfixturevalue("log"))
    names = {"model": digits["classifier"], "images": digits["images"], "labels": digits["labels"]}
    shown = [b for b in blocks(name, "python") if b not in files(name).values()]
    for text in shown:
        exec(compile(text, name, "exec"), names)
    assert isinstance(digits["images"], torch.Tensor)


@pytest.mark.parametrize("name", [n for n in PAGES if blocks(n, "toml")])
def test_the_scenarios_are_read(name: str, here: Path) -> None:
    for text in blocks(name, "toml"):
        table = tomllib.loads(text)
        if "project" not in table:
            scenario = parse_scenario(table, "example", here, name)
            assert scenario.matches


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page(name))
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist_and_take_these_options(name: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = re.sub(r"```.*?```", "", page(name).replace("\\\n", " "), flags=re.S)
    for line in re.findall(r"^    arena (.+)$|`arena\s([^`]+)`", text, re.M):
        line = " ".join("".join(line).split())
        command = commands[line.split()[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {*re.findall(r"--[a-z-]+", line.partition("#")[0])} <= known, line


def test_agents_that_ship_are_listed() -> None:
    for kind in ("attacker", "defender"):
        listed = set(keys(section(f"docs/{kind}s.md", "The packaged ones")))
        assert listed == set(names(kind))  # type: ignore[arg-type]
    said = r"ships (\d+) attackers .*?\s(\d+) defenders, and scenarios for (\d+) published tables"
    counted = re.search(said, page("README.md"), re.S)
    assert counted and [int(n) for n in counted.groups()] == [
        len(names("attacker")),
        len(names("defender")),
        len(PUBLISHED),
    ]


# Scenarios


def test_every_key_of_a_scenario_is_documented() -> None:
    name = "docs/scenarios.md"
    assert {*keys(section(name, "Keys at the top level and in a block"))} == {
        *Block.model_fields,
        "dataset",
        "classifier",
        "threat",
    }
    assert keys(section(name, "Blocks")) == ["block", "size", "sizes"]
    assert keys(section(name, "Threat")) == [*Threat.model_fields, *GrantedResources.model_fields]
    data = keys(section(name, "Data set"))
    assert data == [*DatasetSpec.model_fields, *(d for d in data if d in DATASETS)]
    assert {*data} >= {*DATASETS}
    assert keys(section(name, "Classifier")) == [*ClassifierSpec.model_fields]


def test_documented_defaults_are_the_models() -> None:
    text = page("docs/scenarios.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]*)` \|", text, re.M))
    simple = (Block, Threat, GrantedResources, ClassifierSpec)
    checked = 0
    for model in simple:
        for key, field in model.model_fields.items():
            default = field.default
            if isinstance(default, str | int | bool) and key in rows:
                written = f'"{default}"' if isinstance(default, str) else str(default).lower()
                assert rows[key] == written, key
                checked += 1
    assert checked >= 18


# The log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the scenario in docs/log.md, with fewer games."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "example.toml").write_text(block("docs/log.md", "toml", "A log to ask"))
    command = ["play", str(folder / "example.toml"), "--log", str(folder / "example.db")]
    played = CliRunner().invoke(app, [*command, "--games", "4", "--device", "cpu"], catch_exceptions=False)
    assert played.exit_code == 0
    return folder / "example.db"


@pytest.fixture(scope="module")
def tables(log: Path) -> sqlite3.Connection:
    return sqlite3.connect(log)


QUESTIONS = blocks("docs/log.md", "sql")


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_the_questions_are_answered(number: int, tables: sqlite3.Connection) -> None:
    assert tables.execute(QUESTIONS[number]).fetchall()


def test_every_table_and_column_of_the_log_is_documented(tables: sqlite3.Connection) -> None:
    found = tables.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    there = {name for (name,) in found} - {"arena_log_version", "sqlite_sequence"}
    listed = re.findall(r"^### `(\w+)`$", page("docs/log.md"), re.M)
    assert sorted(listed) == sorted(there)
    for name in listed:
        columns = tables.execute(f"PRAGMA table_info({name})").fetchall()
        rows = re.findall(
            r"^\| `(\w+)` \| \w+ \| .+? \| (.*?) ?\|$", section("docs/log.md", f"`{name}`"), re.M
        )
        expected = [(column, not (required or key)) for _, column, _, required, _, key in columns]
        assert [(column, bool(null)) for column, null in rows] == expected


def test_every_view_of_the_log_is_documented(tables: sqlite3.Connection) -> None:
    views = {name for (name,) in tables.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    assert views == set(re.findall(r"`(finished_\w+)`", page("docs/log.md")))


# Papers


def test_the_scenarios_of_the_papers_are_listed() -> None:
    listed = keys(section("docs/papers.md", "Scenarios"))
    assert sorted(listed) == sorted(PUBLISHED)


@pytest.mark.parametrize(
    ("paper", "tables", "figures"),
    [("PredCoin", 12, 13), ("AAA", 11, 7), ("SND", 8, 2), ("Sign-OPT", 1, 7)],
)
def test_every_table_and_figure_of_the_papers_is_listed(paper: str, tables: int, figures: int) -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| ([\w ]+) \| ?(.*?) ?\|$", section("docs/papers.md", paper), re.M)
    items = [item for item, status, _ in rows if status != "status"]
    for kind, count in (("Table", tables), ("Figure", figures)):
        numbered = {int(n) for item in items for n in re.findall(rf"{kind} (\d+)", item)}
        assert numbered == set(range(1, count + 1))
    for item, status, here in rows:
        assert status in ("status", "played", "partly", "no scenario", "missing", "description")
        named = set(re.findall(r"`(rnd-[a-z]+|[a-z0-9-]+-(?:table|figure)-\d+)`", here))
        assert named <= SCENARIOS, item
        assert status != "played" or named, item


# Agents


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        "my_rounding:Levels",
        "my_defender:UnsureNoise",
        "my_threshold:DeclineUnsure",
        "my_memory:NearDuplicates",
    ],
)
def test_defenders_of_the_pages_pass_the_checks(agent: str, here: Path) -> None:
    result = CliRunner().invoke(app, ["check", agent], catch_exceptions=False)
    assert "all checks passed" in result.output
    assert result.exit_code == 0


@pytest.mark.slow
def test_the_decision_based_attacker_comes_nearer(here: Path, digits: dict[str, Any]) -> None:
    threat = {"norm": "l2", "epsilon": "inf", "budget": 400, "feedback": "label", "objective": "minimum"}
    games = {**digits, "images": digits["images"][:20], "labels": digits["labels"][:20], "threat": threat}
    run = arena.play("my_walk:Stroll", **games, at=[60])
    started, arrived = (np.nanmedian(run.marks[at].l2) for at in (60, 400))
    assert arrived < 0.8 * started
    voting = arena.play({"name": "vote", "repeats": 3, "of": {"name": "my_walk:Stroll"}}, **games)
    assert (voting.queries[voting.played] == 400).mean() > 0.8


@pytest.mark.slow
def test_accounts_are_what_the_worked_example_says(here: Path, digits: dict[str, Any]) -> None:
    square = {"name": "square", "p": 0.3}
    rotated = {"name": "my_accounts:Rotate", "of": square}
    threat = {"norm": "linf", "epsilon": 0.15, "budget": 120, "accounts": 20}
    alone, many = (
        arena.play(attacker, "my_memory:NearDuplicates", **digits, threat=threat)
        for attacker in (square, rotated)
    )
    plain = arena.play(square, **digits, threat=threat)
    assert alone.success()[0] < 0.5 * plain.success()[0] < many.success()[0]
    assert many.success()[0] >= plain.success()[0] - 0.1
    assert alone.games.refused.sum() > 10 * many.games.refused.sum()
    one = arena.play(square, "my_memory:NearDuplicates", **digits, threat=threat | {"accounts": 1})
    assert one.reason.count("banned") > len(one.reason) / 2


def test_a_seat_is_documented() -> None:
    text = page("docs/attackers.md")
    assert {*keys(section("docs/attackers.md", "What it needs"))} >= {f.name for f in fields(Needs)}
    for name in (n for n in vars(Games) if not n.startswith("_")):
        assert f"games.{name}" in text or name == "parts", name
    flags = keys(section("docs/defenders.md", "The full answer"))
    assert flags == [f.name for f in fields(Response) if f.name != "scores"]
