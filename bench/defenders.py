"""What every defender costs and holds, for the catalogue (docs/catalogue.md).

python -m bench defenders [--world digits|mnist|resnet20] [--only NAME ...] [--with NAME:KEY=VALUE,... ...]
    [--games G] [--images N] [--seconds S] [--data DIR ...] [--out FILE]

Every registered defender with its default parameters, and some stacks: what it loses of the clean images'
accuracy and of calibration, its time for a query at one row over the undefended classifier's, the seconds in
which it prepares itself, and what it leaves to two attackers: Square (linf, 200 queries of logits, objective
`submit`) and HopSkipJump (l2, 1,000 queries of labels, objective `minimum`). By `vote` where answers are no
facts. Beside them, what benign clients lose of each kind, before whom nobody asked. Where a query takes long
there are fewer games, images and clients, so that playing takes about S seconds.

Several stacks are measured in a process each, and each is prepared with an empty cache, so that it finds no
training made. Each measurement is written as it ends; those that the file holds are left out, but for those
of `--only`, which measures again. A stack is named as in `rnd+pgd-at`. `--with` changes a defender's
parameters, alone and in stacks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arena.classifiers.devices import device_in_words
from arena.cli.agent_words import agent_of
from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.benign.plan import Traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.evaluation.cost import first_queries
from arena.game.blame import DefenderError
from arena.game.stack import Stack, prepare
from arena.game.stack_oracle import StackOracle
from arena.league.prices import accuracy_lost
from arena.players.measured import FILE, UNKNOWN, Interval, Measured, measurements
from arena.players.registry import build_defender, names
from arena.records.evidence import distance_by
from arena.records.reports import GameRows
from arena.rules.outcome import BROKEN, Verdict
from arena.scenario.loaded_worlds import LoadedWorld
from arena.statistics import median_interval, wilson
from bench.worlds import MINIMUM, games_of, load_world

ROOT = Path(__file__).parent.parent
OUT = ROOT / "agents" / "defenders" / FILE
STACKS = (
    ("rnd", "gaussian-augmentation"),
    ("rnd", "pgd-at"),
    ("predcoin", "trades"),
    ("conv-parity", "trades"),
    ("aaa-linear", "pgd-at"),
    ("snd", "pgd-at"),
    ("blacklight", "snd", "trades"),
)
INSIDE: Mapping[str, Mapping[str, Any]] = {"confidence-gated": {"of": "snd"}}
"""Wrappers, and around what they are measured."""
RADII = {"digits": 0.15, "mnist": 0.3, "resnet20": 8 / 255}
"""Of Square's ball, in linf."""
BUDGETS = {"square": 200, "hop-skip-jump": 1000}
FEWEST = 10
"""Games, images and benign clients of a kind, however long a query takes."""
CLIENTS = 20
"""Benign clients of each kind, at most."""


@dataclass(frozen=True)
class Bench:
    """A world, and how much is measured on it.

    Attributes:
        games, images, seconds: as in the options; bare: what the undefended classifier is worth.
        changed: parameters by the name of a defender.
        command, commit: for the record.
    """

    world: LoadedWorld
    name: str
    games: int
    images: int
    seconds: float
    bare: Utility
    changed: Mapping[str, Mapping[str, Any]]
    command: str
    commit: str

    def measure(self, names: tuple[str, ...]) -> Measured:
        """A stack of defenders, by their names."""
        own = {name: {**INSIDE.get(name, {}), **self.changed.get(name, {})} for name in names}
        shown = [f"{name}: {key} = {value}" for name in names for key, value in own[name].items()]
        found = Measured(
            self.name,
            names,
            self.command,
            self.commit,
            device_in_words(self.world.classifier.device),
            ", ".join(shown),
        )
        defenders = [build_defender({"name": name, **own[name]}) for name in names]
        began = time.process_time()
        try:
            with empty_cache():
                stack = prepare(self.world.classifier, defenders, self.world.dataset)
            return self._measured(replace(found, preparing=time.process_time() - began), stack)
        except DefenderError as error:
            return replace(found, failed=str(error))

    def _measured(self, found: Measured, stack: Stack) -> Measured:
        each = seconds_a_query(stack, self.world)
        afford = max(FEWEST, int(self.seconds / each / (2 * sum(BUDGETS.values()))))
        images = min(self.images, max(FEWEST, int(self.seconds / each / 4)))
        utility = self._evaluation(images).of(stack)
        bare = self.bare
        if images != bare.images:
            bare = self._evaluation(images).of(Stack(self.world.classifier), cost=False)
        lost = accuracy_lost(utility, bare)
        games = min(self.games, afford)
        benign = self._benign(stack, each)
        return replace(
            found,
            images=utility.images,
            accuracy=(utility.accuracy, utility.low, utility.high),
            lost=(lost.value, lost.low, lost.high),
            ece=utility.ece,
            bare_ece=bare.ece,
            time=(utility.cost_1, utility.cost_1_low, utility.cost_1_high),
            seconds=utility.seconds_1,
            games=games,
            square=success(self.play("square", stack, games), stack),
            hop_skip_jump=median_l2(self.play("hop-skip-jump", stack, games), stack),
            sessions=benign[0].sessions,
            benign={loss.client: loss.share("lost") for loss in benign},
        )

    def _benign(self, stack: Stack, each: float) -> list[BenignLoss]:
        """What benign clients lose whose queries take `each` seconds."""
        one = Traffic(sessions=1, histories=("empty",), draws=1)
        afford = int(self.seconds / each / one.images(shared=False) / 2)
        traffic = one.model_copy(update={"sessions": min(CLIENTS, max(FEWEST, afford))})
        return BenignTraffic(self.world.classifier, self.world.dataset.games, traffic).of(stack, delay=False)

    def _evaluation(self, images: int) -> Evaluation:
        return Evaluation(self.world.classifier, self.world.dataset.games, images=images)

    def play(self, attacker: str, stack: Stack, games: int) -> GameRows:
        """The first games of the world, all of whose images the undefended classifier gets right."""
        place = self.world.drawn.index[self.world.drawn.right][:games]
        rules = (
            {"norm": "linf", "epsilon": RADII[self.name], "objective": "submit"}
            if attacker == "square"
            else MINIMUM
        )
        threat = {**rules, "budget": BUDGETS[attacker]}
        return games_of(stack, self.world.dataset.games, place, threat, attacker)


def bench_of(
    world: str,
    data: Sequence[Path] = (),
    *,
    games: int = 100,
    images: int = 1000,
    seconds: float = 120,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    command: str = "python -m bench defenders",
) -> Bench:
    """A world that is loaded, and its undefended classifier measured."""
    loaded = load_world(world, games, data)
    wanted = min(images, len(loaded.dataset.games))
    bare = Evaluation(loaded.classifier, loaded.dataset.games, images=wanted).of(
        Stack(loaded.classifier), cost=False
    )
    return Bench(loaded, world, games, wanted, seconds, bare, changed or {}, command, commit())


def lineup() -> Iterator[tuple[str, ...]]:
    """All stacks: each registered defender alone, then `STACKS`, as far as their defenders are there."""
    there = names("defender")
    yield from ((name,) for name in there)
    yield from (stack for stack in STACKS if set(stack) <= set(there))


def seconds_a_query(stack: Stack, world: LoadedWorld, rows: int = 8) -> float:
    """The processor's, of a small batch."""
    x = world.dataset.games.take(torch.arange(rows)).to(world.classifier.device)
    oracle, asked = StackOracle(stack, games=rows), first_queries(rows, x.device)
    oracle.respond(x, asked)
    began = time.process_time()
    oracle.respond(x, asked)
    return max(time.process_time() - began, 1e-6) / rows


def success(games: GameRows, stack: Stack) -> Interval:
    """The share of the games played that the attacker wins, with Wilson's interval."""
    lost = _lost(games, stack)[_played(games)]
    return (float(lost.mean()), *wilson(float(lost.sum()), len(lost))) if len(lost) else UNKNOWN


def median_l2(games: GameRows, stack: Stack) -> Interval:
    """The median l2 distance over the games played, infinite for one without a win, with its interval."""
    played = _played(games)
    far = np.where(np.isnan(games.l2), np.inf, games.l2)[played]
    verdict: Verdict = "answered" if stack.answers_are_facts else "vote"
    distance = distance_by(verdict, far, _lost(games, stack)[played])
    if not len(distance):
        return UNKNOWN
    low, high = median_interval(distance)
    return float(np.median(distance)), max(0.0, low), high


def _played(games: GameRows) -> Any:
    """[G] those that ended otherwise than before they began or with a failure."""
    return np.array([reason not in ("clean", *BROKEN) for reason in games.reason])


def _lost(games: GameRows, stack: Stack) -> Any:
    return np.nan_to_num(np.asarray(games.answered if stack.answers_are_facts else games.vote, np.float64))


def commit() -> str:
    """That of this checkout, with a + where its code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    code = "arena", "agents", "bench", f":(exclude)agents/defenders/{FILE}"
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return git("rev-parse", "--short", "HEAD") + ("+" if dirty else "")


def held(file: Path) -> dict[tuple[str, tuple[str, ...]], Measured]:
    """The measurements of a file, by world and stack."""
    found = measurements(file.read_text(encoding="utf-8")) if file.exists() else []
    return {(one.world, one.stack): one for one in found}


def keep(file: Path, one: Measured) -> None:
    """Write a measurement to a file in place of that of the same world and stack; sorted, so that a line that
    did not change stays where it is."""
    found = {**held(file), (one.world, one.stack): one}
    ordered = sorted(found.values(), key=lambda m: (m.world, len(m.stack), m.stack))
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text("".join(f"{m.line()}\n" for m in ordered), encoding="utf-8")
    fresh.replace(file)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=RADII, default="digits")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--with", dest="changes", nargs="+", default=[])
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    there = ["+".join(stack) for stack in lineup()]
    if unknown := [name for name in given.only or () if name not in there]:
        parser.error(f"--only: there is no stack {unknown[0]!r}; there are {', '.join(there)}")
    torch.set_num_threads(1)
    changed = {spec.pop("name"): spec for spec in (agent_of("--with", text) for text in given.changes)}
    words = [f"--world {given.world}", *(["--with", *given.changes] if given.changes else [])]
    wanted = [s for s in lineup() if given.only is None or "+".join(s) in given.only]
    if given.only is None:
        wanted = [s for s in wanted if (given.world, s) not in held(given.out)]
    command = " ".join(["python -m bench defenders", *words])
    if len(wanted) > 1:
        each_afresh(wanted, list(sys.argv[1:] if arguments is None else arguments))
        return
    how = {"games": given.games, "images": given.images, "seconds": given.seconds, "changed": changed}
    bench = bench_of(given.world, given.data, command=command, **how)
    for stack in wanted:
        one = bench.measure(stack)
        keep(given.out, one)
        print(f"{'+'.join(stack)}: {one.failed or summary(one)}", flush=True)


def each_afresh(wanted: Sequence[tuple[str, ...]], arguments: list[str]) -> None:
    """Measure each stack in a new process."""
    for stack in wanted:
        # Of two --only the last one counts.
        own = [*arguments, "--only", "+".join(stack)]
        subprocess.run([sys.executable, "-m", "bench", "defenders", *own], check=True)


@contextmanager
def empty_cache() -> Iterator[None]:
    """An empty cache in place of the user's, in which the same trainings may lie, and data do."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["XDG_CACHE_HOME"]
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


def summary(one: Measured) -> str:
    """A measurement on one line."""
    return (
        f"accuracy {one.accuracy[0]:.4f}, lost {one.lost[0]:+.4f}, ECE {one.ece:.4f}, "
        f"time {one.time[0]:.2f}, prepared in {one.preparing:.1f} s, "
        f"{one.games} games: Square {one.square[0]:.3f}, "
        f"HopSkipJump {one.hop_skip_jump[0]:.3f}, "
        f"benign clients lose {max(share for share, *_ in one.benign.values()):.3f} at most"
    )


if __name__ == "__main__":
    main()
