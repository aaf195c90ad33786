"""A match's shards as tasks: they leave the process, and are played elsewhere to the same record."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import arena
from arena.game.shard import play_shard, seat_attacker, seat_games
from arena.players import Attacker, Games, Play
from arena.records.pieces import Piece
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.jobs import ShardTask, shard_count, tasks
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks
from arena.scenario.seeds import Seeds

TABLE = {
    "games": 7,
    "shard": 3,
    "repeats": 2,
    "at": [5],
    "attackers": [{"name": "square", "p": 0.3}],
    "defenders": [[{"name": "snd", "sigma": 0.05}, {"name": "aaa-sine"}]],
    "threat": {"epsilon": 0.2, "budget": 12, "resources": {"images": 4}},
}

ELSEWHERE = """
import pickle, sys
from pathlib import Path
import torch
from arena.game.shard import play_shard, seat_attacker, seat_games
from arena.scenario.loaded_worlds import LoadedWorlds
from arena.scenario.prepared_stacks import PreparedStacks
from arena.scenario.seeds import Seeds

class Kept(list):
    record = list.append

torch.set_num_threads(1)
task = pickle.load(sys.stdin.buffer)
world = LoadedWorlds(Path.cwd(), (), torch.device("cpu")).of(task.match)
kept = Kept()
play_shard(task.open(world, PreparedStacks()), kept)
sys.stdout.buffer.write(pickle.dumps(list(kept)))
"""


class Kept:
    """A recorder that keeps all pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)


def ready(**changes: Any) -> tuple[Match, LoadedWorld, str]:
    (match,) = parse_scenario({**TABLE, **changes}, "small", Path.cwd(), "small").matches
    world = LoadedWorlds(Path.cwd(), (), torch.device("cpu")).of(match)
    return match, world, PreparedStacks().prepare(match, world)


@pytest.fixture(scope="module")
def small() -> tuple[Match, LoadedWorld, str]:
    return ready()


@pytest.fixture(scope="module")
def all_tasks(small: tuple[Match, LoadedWorld, str]) -> list[ShardTask]:
    return list(tasks(*small, "queries"))


def bits(pieces: list[Piece]) -> list[Any]:
    """All that was recorded, to the bit, wherever it was cut."""

    def of(rows: Any) -> list[Any]:
        values = [getattr(rows, f.name) for f in fields(rows)]
        return [(v.dtype.str, v.tobytes()) if isinstance(v, np.ndarray) else str(v) for v in values]

    last = pieces[-1]
    return [
        [of(rows) for piece in pieces for rows in piece.queries],
        [of(rows) for piece in pieces for rows in piece.marks],
        [of(rows) for piece in pieces for rows in piece.notes],
        of(last.games),
        {purpose: numbers.tolist() for purpose, numbers in last.purposes.items()},
    ]


def play(task: ShardTask, world: LoadedWorld) -> list[Piece]:
    kept = Kept()
    play_shard(task.open(world, PreparedStacks()), kept)
    return kept.pieces


def test_the_tasks_of_a_match_are_its_games_once_a_repeat(
    small: tuple[Match, LoadedWorld, str], all_tasks: list[ShardTask]
) -> None:
    match, world, _ = small
    stacks, drawn = PreparedStacks(), len(world)
    assert shard_count(match, world) == len(all_tasks) == 2 * -(-drawn // 3)
    places = [[*range(drawn)[task.rows]] for task in all_tasks]
    assert [place for part in places for place in part] == [*range(drawn)] * 2
    assert max(map(len, places)) == 3
    half = len(all_tasks) // 2
    assert [(task.repeat, task.number) for task in all_tasks] == [(r, n) for r in (0, 1) for n in range(half)]
    openings = [task.open(world, stacks).openings for task in all_tasks[:half]]
    dealt = torch.cat([o.key for o in openings])
    assert dealt.tolist() == world.dataset.games.index[world.drawn.index].tolist()


def test_a_repeat_has_seeds_of_its_own(
    small: tuple[Match, LoadedWorld, str], all_tasks: list[ShardTask]
) -> None:
    _, world, _ = small
    stacks = PreparedStacks()
    first, again = all_tasks[0].open(world, stacks), all_tasks[len(all_tasks) // 2].open(world, stacks)
    assert first.openings.key.tolist() == again.openings.key.tolist()
    assert first.attacker_seed != again.attacker_seed
    assert first.defender_seed != again.defender_seed
    assert first.attacker_seed != first.defender_seed


@pytest.mark.slow
def test_a_task_is_played_in_another_process_to_the_same_bits(
    small: tuple[Match, LoadedWorld, str], all_tasks: list[ShardTask]
) -> None:
    _, world, _ = small
    task = all_tasks[-2]
    packed = task.packed()
    assert len(packed) < 20_000
    found = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=packed,
        capture_output=True,
        cwd=Path(arena.__file__).parents[1],
        timeout=120,
    )
    assert found.returncode == 0, found.stderr.decode()
    there, here = pickle.loads(found.stdout), play(task, world)
    assert bits(there) == bits(here)
    assert sum(len(rows) for piece in here for rows in piece.queries) > 12
    assert bits(play(all_tasks[0], world)) != bits(here)


def test_a_task_knows_how_much_is_recorded(small: tuple[Match, LoadedWorld, str]) -> None:
    task = next(tasks(*small, "games"))
    pieces = play(task, small[1])
    assert not any(piece.queries for piece in pieces)
    assert sum(piece.answered for piece in pieces) > 0


@dataclass(frozen=True)
class Asks(Attacker):
    """Asks what `how` makes of the clean images."""

    how: Any = None

    def play(self, games: Games) -> Play:
        yield from games.ask(self.how(games.x0) if self.how else games.x0)


def made_within() -> Attacker:
    @dataclass(frozen=True)
    class Local(Attacker):
        def play(self, games: Games) -> Play:
            yield from games.ask(games.x0)

    return Local()


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: Asks(lambda x: x / 2), "<lambda>"), (made_within, "Local")],
    ids=["lambda", "local class"],
)
def test_an_agent_that_cannot_leave_the_process_is_refused_in_one_sentence(
    make: Callable[[], Attacker], said: str
) -> None:
    match, world, sha = ready(attackers=[make()], defenders=["none"])
    task = next(tasks(match, world, sha, "queries"))
    with pytest.raises(ScenarioError) as caught:
        task.packed()
    sentence = str(caught.value)
    assert sentence.startswith(f"small: {match.name} cannot be played in another process: ")
    assert said in sentence
    assert sentence.endswith(
        "; agents must be classes of importable modules, their parameters values that pickle takes"
    )
    assert "\n" not in sentence
    assert play(task, world)[-1].games is not None


def test_agents_of_modules_are_packed(all_tasks: list[ShardTask]) -> None:
    again = pickle.loads(all_tasks[1].packed())
    assert again == all_tasks[1]
    assert again.match.attacker == all_tasks[1].match.attacker


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("dataset_sha", "data set"),
        ("classifier_sha", "classifier"),
    ],
)
def test_other_data_or_weights_are_refused(
    small: tuple[Match, LoadedWorld, str], all_tasks: list[ShardTask], field: str, what: str
) -> None:
    own = getattr(all_tasks[0], field)
    other = replace(all_tasks[0], **{field: "0123456789abcdef"})
    said = f"the {what} here is another than the shard was cut for .SHA {own[:12]}; it must be 0123456789ab.$"
    with pytest.raises(ScenarioError, match=f"^small: {said}"):
        other.open(small[1], PreparedStacks())


def test_a_stack_that_is_not_kept_here_is_refused(
    all_tasks: list[ShardTask], small: Any, tmp_path: Path
) -> None:
    with pytest.raises(ScenarioError, match=r"^small: snd.aaa-sine: there is no prepared stack "):
        all_tasks[0].open(small[1], PreparedStacks(tmp_path))
    match, world, _ = ready(defenders=["snd"])
    task = next(tasks(match, world, "0" * 64, "queries"))
    with pytest.raises(ScenarioError, match=r"^small: snd: it is another than was prepared .SHA "):
        task.open(world, PreparedStacks(tmp_path))


def test_a_secret_decides_the_games_their_numbers_and_all_draws() -> None:
    """What an agent holds tells neither which images of the data set it plays nor the defender's seed."""
    scenario = parse_scenario(TABLE, "secret", Path.cwd(), "secret.toml")

    def opened(secret: bytes | None) -> Any:
        (match,) = scenario.with_seeds(Seeds(secret)).matches
        world = LoadedWorlds(Path.cwd(), (), torch.device("cpu")).of(match)
        task = next(iter(tasks(match, world, PreparedStacks().prepare(match, world), "queries")))
        return match, task.open(world, PreparedStacks())

    (match, public), (one, job), (_, again) = (
        opened(None),
        opened(b"0123456789abcdef"),
        opened(b"0123456789abcdef"),
    )
    kept = Kept()
    play_shard(job, kept)

    assert match.describe() == {k: v for k, v in one.describe().items() if k != "secret"}
    assert one.describe()["secret"] == one.seeds.commitment
    assert torch.equal(job.openings.x0, again.openings.x0)
    assert not torch.equal(job.openings.x0, public.openings.x0)
    assert len({job.attacker_seed, job.defender_seed, public.attacker_seed, public.defender_seed}) == 4
    assert torch.equal(public.openings.numbers, public.openings.key)
    assert not torch.equal(job.openings.numbers, job.openings.key)
    seat = seat_attacker(job, seat_games(job))
    assert torch.equal(seat.key, job.openings.numbers)
    assert seat.seed == job.attacker_seed
    games = kept.pieces[-1].games
    assert games is not None
    assert np.array_equal(games.key, job.openings.key.numpy()), "the log holds the images' numbers"
