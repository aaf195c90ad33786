"""Scenario files: what they come to, and what a mistake is told (docs/design.md, D6 and D10)."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import scenarios
from arena.players import Attacker, Games, Needs, Play
from arena.scenario.errors import ScenarioError
from arena.scenario.files import load_scenario, parse_scenario
from arena.scenario.loaded_worlds import LoadedWorlds

MINIMAL = """
attackers = ["square"]
defenders = ["none"]
[threat]
epsilon = "8/255"
budget = 100
"""


def read(tmp_path: Path, text: str):
    file = tmp_path / "x.toml"
    file.write_text(textwrap.dedent(text))
    return load_scenario(file)


def told(tmp_path: Path, text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "x.toml"))
    return said


@pytest.mark.parametrize("file", sorted(Path(scenarios.__file__).parent.glob("*.toml")), ids=lambda f: f.stem)
def test_packaged_scenarios_are_valid(file):
    scenario = load_scenario(file)
    assert scenario.matches
    assert load_scenario(file.stem).matches == scenario.matches


def test_quickstart_crosses_four_attackers_with_five_defenders():
    matches = load_scenario("quickstart").matches
    assert {m.attacker_name for m in matches} == {"square", "bi-square", "op-square", "eot(square)"}
    assert {m.defender_name for m in matches} == {"none", "snd", "rnd", "aaa-linear", "aaa-sine"}
    assert len(matches) == 20
    assert [m.number for m in matches] == list(range(20))


def test_a_file_without_blocks_is_one(tmp_path):
    scenario = read(tmp_path, MINIMAL)
    (match,) = scenario.matches
    assert scenario.title == "x"
    assert match.threat.epsilon == pytest.approx(8 / 255)
    assert match.world.dataset.name == "digits"
    assert match.at == (100,)


def test_blocks_take_from_the_top_level_what_they_do_not_say(tmp_path):
    scenario = read(
        tmp_path,
        """
        title = "two blocks"
        games = 7
        attackers = ["square"]
        [threat]
        epsilon = "8/255"
        budget = 100
        [[block]]
        title = "a"
        defenders = ["none", "snd"]
        [[block]]
        title = "b"
        games = 9
        defenders = [{ stack = ["snd", "rnd"] }]
        threat = { budget = 50 }
        """,
    )
    assert [m.settings.games for m in scenario.matches] == [7, 7, 9]
    assert [m.threat.budget for m in scenario.matches] == [100, 100, 50]
    assert scenario.matches[2].threat.epsilon == scenario.matches[0].threat.epsilon
    assert scenario.matches[2].defender_name == "snd+rnd"
    assert [m.block for m in scenario.matches] == ["a", "a", "b"]


def test_threats_and_worlds_are_crossed(tmp_path):
    scenario = read(
        tmp_path,
        """
        attackers = ["square"]
        defenders = ["none"]
        [[worlds]]
        dataset = "digits"
        [[worlds]]
        dataset = { name = "npz", path = "mine.npz" }
        classifier = { network = "some.module:factory" }
        [[threats]]
        epsilon = 0.1
        budget = 10
        [[threats]]
        epsilon = 0.5
        norm = "l2"
        budget = 10
        """,
    )
    assert [(m.world.dataset.name, m.threat.norm) for m in scenario.matches] == [
        ("digits", "linf"),
        ("digits", "l2"),
        ("npz", "linf"),
        ("npz", "l2"),
    ]


def test_the_adaptive_convention_multiplies_budget_and_reported_counts(tmp_path):
    text = MINIMAL.replace(
        'attackers = ["square"]',
        'at = [10]\nattackers = [{ name = "eot", repeats = 5, convention = "adaptive", of = "square" }]',
    )
    (match,) = read(tmp_path, text).matches
    assert match.threat.budget == 500
    assert match.at == (50, 500)


@dataclass(frozen=True)
class Scheduled(Attacker):
    """Its schedule depends on the budget."""

    times: int = 1
    needs = Needs(prefix=False)

    @property
    def budget_factor(self) -> int:
        return self.times

    def play(self, games: Games) -> Play:
        yield from games.ask(games.x0)


def test_an_attacker_whose_schedule_depends_on_the_budget_plays_once_per_count():
    table = {
        "attackers": [Scheduled(), "square", Scheduled(times=2)],
        "defenders": ["none", "snd"],
        "threat": {"epsilon": 0.1, "budget": 1500},
        "at": [10, 500],
    }
    matches = parse_scenario(table, "x", Path.cwd(), "x").matches
    seen = [(type(m.attacker).__name__, m.threat.budget, m.at, m.title) for m in matches]
    once = [(10, (10,), "10 queries"), (500, (500,), "500 queries"), (1500, (1500,), "1,500 queries")]
    twice = [(20, (20,), "20 queries"), (1000, (1000,), "1,000 queries"), (3000, (3000,), "3,000 queries")]
    assert seen == (
        [("Scheduled", *own) for own in once for _ in range(2)]
        + [("Square", 1500, (10, 500, 1500), "")] * 2
        + [("Scheduled", *own) for own in twice for _ in range(2)]
    )
    assert [m.number for m in matches] == list(range(14))
    assert [m.name.rpartition(":")[2] for m in matches[1:3]] == [
        "Scheduled vs snd, 10 queries",
        "Scheduled vs none, 500 queries",
    ]
    (only,) = parse_scenario(
        table | {"attackers": [Scheduled()], "defenders": ["none"], "at": []}, "x", Path.cwd(), "x"
    ).matches
    assert (only.at, only.title) == ((1500,), "")


def test_radii_are_numbers_and_fractions_in_order(tmp_path):
    text = MINIMAL.replace("square", "hop-skip-jump").replace("budget", 'objective = "minimum"\nbudget')
    for written, read_as in (('[0.03, "2/255", 0.03]', (2 / 255, 0.03)), ("[]", ())):
        (match,) = read(tmp_path, f"radii = {written}\n{text}").matches
        assert match.settings.radii == read_as
    (match,) = read(tmp_path, 'radii = ["inf", 3]\n' + text.replace("8/255", "inf")).matches
    assert match.settings.radii == (3, math.inf)
    assert told(tmp_path, f"radii = [0]\n{text}").endswith(
        'radii.0: a radius must be a positive number, a fraction such as "8/255", or "inf"; found 0'
    )
    assert told(tmp_path, f"radii = [0.5]\n{text}").endswith(
        "radii: found 0.5; radii go up to epsilon 0.0313725"
    )
    assert told(tmp_path, f"radii = [0.01]\n{MINIMAL}").endswith(
        'radii: they need objective "minimum"; the threat\'s objective is "first"'
    )


def test_radii_may_be_a_range(tmp_path):
    text = MINIMAL.replace("square", "hop-skip-jump").replace("budget", 'objective = "minimum"\nbudget')
    (match,) = read(tmp_path, f'radii = {{ from = 0, to = "8/255", steps = 4 }}\n{text}').matches
    assert match.settings.radii == pytest.approx([2 / 255, 4 / 255, 6 / 255, 8 / 255])
    assert match.settings.radii[-1] == 8 / 255, "the end itself"
    (match,) = read(tmp_path, f'radii = {{ from = "2/255", to = "4/255", steps = 1 }}\n{text}').matches
    assert match.settings.radii == (2 / 255, 4 / 255)
    for written, said in {
        "{ from = 0, to = 1 }": "a range has from, to and steps; found from, to",
        "{ from = 0, to = 1, steps = 3, by = 2 }": "found by, from, steps, to",
        "{ from = 0, to = 1, steps = 0 }": "steps must be a whole number from 1 to 200; found 0",
        "{ from = 0, to = 1, steps = 1000000000 }": "steps must be a whole number from 1 to 200",
        "{ from = 0, to = 1, steps = 2.5 }": "steps must be a whole number from 1 to 200; found 2.5",
        "{ from = 2, to = 1, steps = 3 }": "goes from a radius to a larger finite one; found 2 to 1",
        '{ from = 0, to = "inf", steps = 3 }': "found 0 to inf",
        "{ from = -1, to = 1, steps = 3 }": "from must be a positive number",
        "{ from = false, to = 1, steps = 3 }": "from must be a positive number",
        "{ from = 0, to = 1, steps = 3 }": "radii: found 0.333333; radii go up to epsilon 0.0313725",
    }.items():
        assert said in told(tmp_path, f"radii = {written}\n{text}"), written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("budget", "buget"), 'threat.buget: there is no such key; did you mean "budget"?'),
        (("budget = 100", ""), "threat.budget: this key is missing"),
        (
            ("budget = 100", "budget = 0"),
            "threat.budget: found 0; input should be greater than or equal to 1",
        ),
        (('epsilon = "8/255"', 'epsilon = "8/0"'), "threat.epsilon: epsilon must be a positive number"),
        (("[threat]", "gams = 3\n[threat]"), 'gams: there is no such key; did you mean "games"?'),
        (("[threat]", "games = 0\n[threat]"), "games: found 0"),
        (("[threat]", "at = [200]\n[threat]"), "at: found 200; counts go up to the budget 100"),
        (
            ("[threat]", 'log = "all"\n[threat]'),
            "log: found 'all'; input should be 'queries', 'changes' or 'games'",
        ),
        (('"square"', '"sqare"'), 'attackers 1: there is no attacker "sqare"; did you mean "square"?'),
        (
            ('["none"]', '["none", { name = "snd", sgma = 1.0 }]'),
            'defenders 2: defender "snd" has no parameter "sgma"',
        ),
        (
            ("budget = 100", 'budget = 100\nfeedback = "label"'),
            "square cannot play this threat: it needs scores",
        ),
        (("budget = 100", 'budget = 100\nobjective = "minimum"'), "square cannot play this threat"),
        (("budget = 100", "budget = = 1"), "is not valid TOML"),
        (("[threat]", "threats = []\n[threat]"), "threats: found beside threat; give one or the other"),
        (('["square"]', "[]"), "attackers: found []; it must hold at least one"),
        (('["square"]', '"square"'), "attackers: found 'square'; it must be a list"),
        (("[threat]", 'games = "5"\n[threat]'), "games: found '5'; input should be a valid integer"),
        (("[threat]", "batch = true\n[threat]"), "batch: found True; input should be a valid integer"),
        (("[threat]", "votes = 2.0\n[threat]"), "votes: found 2.0; input should be a valid integer"),
        (("[threat]", 'at = ["5"]\n[threat]'), "at.0: found '5'; input should be a valid integer"),
        (("budget = 100", 'budget = "100"'), "threat.budget: found '100'; input should be a valid integer"),
        (("budget = 100", "budget = true"), "threat.budget: found True; input should be a valid integer"),
        (("[threat]", "block = []\n[threat]"), "block: found []; write at least one [[block]]"),
        (('["none"]', "[{ stack = [] }]"), "defenders 1: a stack of defenders must hold at least one"),
    ],
)
def test_a_mistake_is_told_by_file_key_finding_and_what_is_allowed(tmp_path, change, said):
    assert said in told(tmp_path, MINIMAL.replace(*change))


def test_an_attacker_that_evaluates_a_detector_plays_no_stack_without_one(tmp_path):
    text = MINIMAL.replace('"square"', '{ name = "vote", of = "bypass-fq" }')
    text = text.replace("budget", 'knowledge = "detector"\nbudget')
    bare = text.replace('"none"', '"predcoin", { stack = ["snd", "none"] }')
    assert (
        "attacker vote(bypass-fq) cannot play against snd+none: it needs knowledge"
        ' "detector"; no defender of this stack has a detector'
    ) in told(tmp_path, bare)
    stack = text.replace('"none"', '{ stack = ["snd", "predcoin-hash"] }')
    assert len(read(tmp_path, stack).matches) == 1


def test_a_data_set_without_a_classifier(tmp_path):
    own = 'dataset = { name = "npz", path = "none.npz" }'
    said = 'classifier: found none; data set "npz" needs one to be named'
    file = tmp_path / "x.toml"
    assert told(tmp_path, f"{own}\n{MINIMAL}") == f"{file}: {said}"
    assert told(tmp_path, f"{MINIMAL}\n[[block]]\n[[block]]\n{own}") == f"{file}: block 2: {said}"
    two = f'[[worlds]]\ndataset = "digits"\n[[worlds]]\n{own}'
    assert told(tmp_path, f"{MINIMAL}\n{two}") == f"{file}: worlds.1: {said}"


def test_a_mistake_inside_a_list_does_not_make_it_short(tmp_path):
    said = told(tmp_path, MINIMAL.replace("budget = 100", 'budget = 100\nnorm = "l3"'))
    assert said == f"{tmp_path / 'x.toml'}: threat.norm: found 'l3'; input should be 'l2' or 'linf'"


def test_a_world_that_cannot_be_loaded_is_told_by_file_and_block(tmp_path):
    text = """
    attackers = ["square"]
    defenders = ["none"]
    games = 3
    threat = { epsilon = 0.1, budget = 3 }
    [[block]]
    [[block]]
    """
    for own, said in (
        ('dataset = "digit"', 'dataset: there is no data set "digit"; did you mean "digits"?'),
        (
            'dataset = { name = "npz", path = "none.npz" }\nclassifier = "digits-cnn"',
            'dataset: data set "npz": no none.npz in any of ',
        ),
        ('classifier = { network = "digits-cnn", weights = "none.safetensors" }', "classifier: "),
        ("games = 9999", "games: found 9999; classifier digits-cnn gets"),
    ):
        scenario = read(tmp_path, f"{text}{own}\n")
        grounds = LoadedWorlds(tmp_path, [], torch.device("cpu"))
        with pytest.raises(ScenarioError) as caught:
            [grounds.of(match) for match in scenario.matches]
        assert str(caught.value).startswith(f"{tmp_path / 'x.toml'}: block 2: {said}")


@pytest.mark.slow
def test_a_users_own_package_named_scenarios_hides_no_packaged_one(tmp_path):
    own = tmp_path / "scenarios"
    own.mkdir()
    (own / "__init__.py").touch()
    root = str(Path(scenarios.__file__).parent.parent)
    code = (
        f"import sys; sys.path += [{root!r}]; "
        "from arena.scenario.files import load_scenario; load_scenario('quickstart')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_missing_file_names_the_packaged_ones():
    with pytest.raises(ScenarioError, match='did you mean "quickstart"'):
        load_scenario("quickstrat")


def test_a_monitor_is_a_block_s_choice_and_needs_every_query(tmp_path):
    for written, wanted in (("", False), ("margin_base = true\n", True), ("margin_base = false\n", False)):
        (match,) = read(tmp_path, f"{written}{MINIMAL}").matches
        assert match.settings.margin_base is wanted
        assert match.describe().get("margin_base", False) is wanted
    (match,) = read(tmp_path, f'log = "queries"\nmargin_base = true\n{MINIMAL}').matches
    assert match.settings.margin_base
    for level in ("changes", "games"):
        assert told(tmp_path, f'log = "{level}"\nmargin_base = true\n{MINIMAL}').endswith(
            f'margin_base: it is logged beside each query, which needs log = "queries"; found log = "{level}"'
        )
    assert "margin_base" in told(tmp_path, f'margin_base = "yes"\n{MINIMAL}')
