"""What an agent's process may read: enough to run, and nothing of what decides a game."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

import arena
from arena.isolation import sandbox, syscalls
from arena.isolation.grants import Grants, grants_for
from arena.scenario.errors import ScenarioError
from arena.scenario.files import load_scenario, parse_scenario
from arena.scenario.seeds import PUBLIC, Seeds

ARENA = Path(arena.__file__).parent


def may_read(grants: Grants, path: Path) -> bool:
    path = path.resolve()
    return any(Path(place) == path or Path(place) in path.parents for place in grants.readable)


def test_the_arena_is_readable_but_for_its_weights() -> None:
    grants = grants_for(["agents.attackers.score.square"])
    assert may_read(grants, ARENA / "players" / "seat.py")
    assert may_read(grants, ARENA / "classifiers" / "classifier.py")
    weights = list((ARENA / "classifiers" / "weights").glob("*.safetensors"))
    assert weights
    assert not [path for path in weights if may_read(grants, path)]


def test_data_that_comes_with_packages_is_withheld_and_their_code_is_not() -> None:
    import sklearn

    grants, home = grants_for(["agents.attackers.score.square"]), Path(sklearn.__file__).parent
    assert may_read(grants, home / "datasets" / "__init__.py")
    assert not may_read(grants, home / "datasets" / "data" / "digits.csv.gz")


def test_an_agent_reads_its_own_modules_and_those_that_they_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "mine_here.py": "import helper_here\nfrom package_here.part import x",
        "helper_here.py": "",
        "other_here.py": "",
        "seed.txt": "secret",
        "package_here/part.py": "x = 1",
        "package_here/data.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    grants = grants_for(["mine_here"])
    assert set(grants.own) == {"mine_here", "helper_here", "package_here"}
    allowed = [p.name for p in sorted(tmp_path.rglob("*")) if p.is_file() and may_read(grants, p)]
    assert allowed == ["helper_here.py", "mine_here.py", "part.py"]
    assert str(tmp_path) not in grants.listable


def test_agents_that_it_does_not_import_are_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone_here.py").write_text("import arena.players")
    monkeypatch.syspath_prepend(str(tmp_path))
    import agents

    assert not may_read(grants_for(["alone_here"]), Path(agents.__file__).parent / "defenders" / "snd.py")
    assert may_read(
        grants_for(["agents.defenders.snd"]), Path(agents.__file__).parent / "defenders" / "snd.py"
    )


def test_a_machine_without_the_means_refuses_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("arena.scenario.matches.lacking", lambda: "the kernel does not offer Landlock")
    table = {"isolation": "process", "attackers": ["no_such_module:X"], "defenders": ["none"]}
    table |= {"threat": {"epsilon": 0.1, "budget": 5}}
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(table, "s", tmp_path, "s.toml")
    said = 's.toml: isolation: "process" cannot be had on this machine: the kernel does not offer Landlock; '
    assert str(caught.value) == f'{said}"none" goes without'


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sys.platform": "darwin"}, "this is darwin"),
        ({"arena.isolation.syscalls._ARCHITECTURES": {}}, f"the system calls of {platform.machine()}"),
        ({"arena.isolation.sandbox._landlock_version": lambda: -1}, "does not offer Landlock"),
    ],
)
def test_what_is_lacking_is_said(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], said: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(name, value)
    assert said in str(sandbox.lacking())


def test_every_call_has_one_number_on_each_machine() -> None:
    for column in (0, 1):
        numbers = [pair[column] for pair in syscalls._NUMBERS.values() if pair[column] is not None]
        assert len(set(numbers)) == len(numbers)
    denied = {"socket": 41, "connect": 42, "execve": 59, "fork": 57, "vfork": 58, "ptrace": 101, "mount": 165}
    denied |= {"process_vm_readv": 310, "memfd_create": 319, "bpf": 321, "io_uring_setup": 425, "keyctl": 250}
    assert not {pair[0] for pair in syscalls._NUMBERS.values()} & set(denied.values())


def test_a_ranked_run_isolates_where_the_scenario_says_nothing(tmp_path: Path) -> None:
    if sandbox.lacking() is not None:
        pytest.skip("no isolation here")
    text = 'attackers = ["square"]\ndefenders = ["none"]\nthreat = { epsilon = 0.1, budget = 5 }\n'
    (tmp_path / "plain.toml").write_text(text)
    (tmp_path / "open.toml").write_text('isolation = "none"\n' + text)

    def isolation(name: str, seeds: Seeds) -> set[str]:
        return {
            match.describe()["isolation"] for match in load_scenario(tmp_path / name, seeds=seeds).matches
        }

    secret = Seeds(b"0123456789abcdef0123456789abcdef")
    assert isolation("plain.toml", PUBLIC) == {"none"}
    assert isolation("plain.toml", secret) == {"process"}
    assert isolation("open.toml", secret) == {"none"}


def test_an_import_opens_the_module_alone_and_nothing_of_another_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `if False: import ours` would let a stranger read all that lies in our package."""
    for name, text in (
        ("theirs_here/__init__.py", ""),
        ("theirs_here/attack.py", "if False:\n    import ours_here.tools\n    import rival_here.core\n"),
        ("theirs_here/weights.bin", ""),
        ("ours_here/__init__.py", ""),
        ("ours_here/tools.py", ""),
        ("ours_here/league.secret", ""),
        ("rival_here/__init__.py", ""),
        ("rival_here/core.py", ""),
    ):
        (file := tmp_path / name).parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("arena.isolation.grants._agents_tops", lambda: {"agents", "rival_here"})

    grants = grants_for(["theirs_here.attack"])

    readable = [
        str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*.*")) if may_read(grants, file)
    ]
    assert readable == [
        "ours_here/__init__.py",
        "ours_here/tools.py",
        "theirs_here/__init__.py",
        "theirs_here/attack.py",
        "theirs_here/weights.bin",
    ]
