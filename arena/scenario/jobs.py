"""The shards of a validated match, as jobs that any process can play (docs/design.md, D7)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

from arena.game.blame import DefenderError
from arena.game.openings import draw_resources
from arena.game.shard import Job, play_shard, record_unplayed
from arena.isolation.attackers import IsolatedAttacker
from arena.isolation.children import nursery
from arena.players import Attacker
from arena.players.registry import public_parameters
from arena.records.pieces import LogLevel, Recorder
from arena.scenario.errors import ScenarioError
from arena.scenario.identity import fingerprint, modules_of_agents
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks
from arena.scenario.reference_networks import pinned


@dataclass(frozen=True)
class ShardTask:
    """A unit of work: a match, a range of its drawing order, and which replay of it.

    It holds no data, no weights and nothing prepared: who plays it finds them by their SHAs.

    Attributes:
        number: the shard's place in the match; repeat: which replay of its games.
        rows: the range of the drawing order.
    """

    match: Match
    number: int
    repeat: int
    rows: slice
    level: LogLevel
    dataset_sha: str
    classifier_sha: str
    prepared_sha: str

    def play(
        self, world: LoadedWorld, stacks: PreparedStacks, failed: str | None, recorder: Recorder
    ) -> None:
        """Play the shard; where its defenders failed before it could begin, all of its games end in `error`.

        Args:
            failed: how they failed as they were prepared; None: they did not.

        Raises:
            ScenarioError: as `open`.
        """
        try:
            job = self.open(world, stacks) if failed is None else None
        except DefenderError as error:
            job, failed = None, str(error)
        if job is not None:
            play_shard(job, recorder)
        else:
            openings = world.openings(self.match, self.rows)
            record_unplayed(openings, self.match.threat, self.match.at, failed or "", recorder)

    def open(self, world: LoadedWorld, stacks: PreparedStacks) -> Job:
        """The job, ready to be played. Its attacker is a copy, or in a process of its own: no play changes
        another's.

        Raises:
            DefenderError: if the prepared defenders cannot be read back by their own methods.
            ScenarioError: if data or weights are others than the task was made for, its prepared defenders
                are not to be found, or the split of the attackers' resources holds too few images.
        """
        for what, found, wanted in (
            ("data set", world.dataset.sha, self.dataset_sha),
            ("classifier", world.classifier.sha, self.classifier_sha),
        ):
            if found != wanted:
                raise ScenarioError(
                    f"{self.match.where}the {what} here is another than the shard was cut for "
                    f"(SHA {found[:12]}; it must be {wanted[:12]})"
                )
        match, seeds, seed = self.match, self.match.seeds, self.match.settings.seed
        said = match.describe()
        openings, stack = world.openings(match, self.rows), stacks.load(self.prepared_sha, match, world)
        return Job(
            stack=stack,
            openings=openings,
            threat=pinned(match.threat, world.surrogate_shas),
            defender_seed=seeds.of_side(
                "defender", seed, self.repeat, fingerprint([match.defender_name, said["defenders"]])
            ),
            at=match.at,
            votes=match.settings.votes,
            limits=match.settings.limits,
            attacker=_player(match),
            attacker_seed=seeds.of_side(
                "attacker", seed, self.repeat, fingerprint([match.attacker_name, said["attacker"]])
            ),
            resources=draw_resources(
                match.threat, world.pool, openings, seeds.of_draw(seed), world.surrogates
            ),
            defense=public_parameters(stack.defenders),
            level=self.level,
            margin_base=match.settings.margin_base,
        )

    def packed(self) -> bytes:
        """The task in a form that can be sent to another process.

        Raises:
            ScenarioError: if an agent cannot be sent: a lambda, a class made within a function.
        """
        try:
            return pickle.dumps(self)
        except Exception as error:  # pickle raises whatever an agent's parts raise
            reason = " ".join(str(error).split())
            raise ScenarioError(
                f"{self.match.where}{self.match.name} cannot be played in another process: {reason}; agents "
                f"must be classes of importable modules, their parameters values that pickle takes"
            ) from error


def _player(match: Match) -> Attacker:
    """The attacker of a match as it plays in one shard."""
    if match.settings.isolation == "none":
        return own_copy(match.attacker)
    nursery()  # that it cannot begin is no attacker's failure
    return IsolatedAttacker(match.attacker, tuple(modules_of_agents(match.attacker)), match.settings.limits)


def own_copy(attacker: Attacker) -> Attacker:
    """An attacker that shares nothing with `attacker`, but for parts that cannot be copied."""
    try:
        return copy.deepcopy(attacker)
    except Exception:  # whatever copying an agent's parts raises
        return copy.copy(attacker)


def tasks(match: Match, world: LoadedWorld, prepared_sha: str, level: LogLevel) -> Iterator[ShardTask]:
    """The shards of a match, in the order in which they are played."""
    size = match.settings.shard
    for repeat in range(match.settings.repeats):
        for number, first in enumerate(range(0, len(world), size)):
            rows = slice(first, min(first + size, len(world)))
            yield ShardTask(
                match,
                number,
                repeat,
                rows,
                level,
                world.dataset.sha,
                world.classifier.sha,
                prepared_sha,
            )


def shard_count(match: Match, world: LoadedWorld) -> int:
    """How many shards a match has."""
    return match.settings.repeats * -(-len(world) // match.settings.shard)
