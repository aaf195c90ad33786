"""Logs of games that nobody played, written as games are: 8 attackers against 5 defenders, all on the same
images, with answers, verdicts and final images that fit each other."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.evaluation.clean_utility import Utility
from arena.log import Log
from arena.records.pieces import Pieces
from arena.records.reports import GameRows, MarkRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Bools, Floats, Ints
from arena.rules.threat import Threat

ATTACKERS = ("hop-skip-jump", "boundary", "geoda", "sign-opt", "surfree", "qeba", "cgba", "noise")
DEFENDERS = ("none", "snd", "rnd", "crop", "refuser")
"""The first answers with facts, the last refuses and flags some queries."""
BUDGET, AT, SHARD = 100, (25, 50, 100), 250
SHAPE, CLASSES = (3, 32, 32), 10
THREAT = Threat(norm="l2", epsilon=0.5, budget=BUDGET, feedback="label", objective="minimum")
CLEAN = 0.06
"""The share of images that the classifier gets wrong: drawn, not played."""
PURPOSES = ("gradient", "boundary-search", "step", "start")


@dataclass(frozen=True)
class MadeShard:
    """What a Referee would report of a shard: volleys of one query a game, marks, the games."""

    volleys: list[QueryRows]
    marks: dict[int, MarkRows]
    games: GameRows

    @property
    def rows(self) -> int:
        return sum(map(len, self.volleys))

    def tell(self, pieces: Pieces) -> None:
        """Report it in the order of play."""
        pieces.marks(self.marks[0])
        for turn, volley in enumerate(self.volleys, 1):
            pieces.queries(volley)
            if turn in self.marks:
                pieces.marks(self.marks[turn])
        pieces.games(self.games)
        pieces.close()


def games_for(rows: int) -> int:
    """How many games each of the 40 matches has in a log of about so many queries."""
    return max(1, round(rows / (len(ATTACKERS) * len(DEFENDERS) * BUDGET * (1 - CLEAN))))


def write_log(log: Log, rows: int) -> dict[str, float]:
    """Write about so many queries; how many they are, and the seconds that the recorder took.

    The shards come in any order, as from several workers.
    """
    games = games_for(rows)
    run = log.begin_run(_run(games))
    cells = [(a, d) for a in range(len(ATTACKERS)) for d in range(len(DEFENDERS))]
    ids = [log.begin_match(run, _match(number, *cell)) for number, cell in enumerate(cells)]
    for match_id in ids:
        log.record_utility(match_id, Utility(500, 0.94, 0.92, 0.96, 0.0, 0.0, 0.98, 0.01, 0.01, 0.2))
    shards = [(n, s) for n in range(len(cells)) for s in range(math.ceil(games / SHARD))]
    written, seconds, spent = 0, 0.0, 0.0
    for i in np.random.default_rng(0).permutation(len(shards)).tolist():
        number, shard = shards[i]
        images = np.arange(shard * SHARD, min(games, (shard + 1) * SHARD))
        made = make_shard(*cells[number], images)
        start, processor = time.perf_counter(), time.process_time()
        with log.shard(ids[number], shard, 0, f"{number} {shard}", images) as recorder:
            made.tell(Pieces(recorder, threat=THREAT))
        seconds += time.perf_counter() - start
        spent += time.process_time() - processor
        written += made.rows
    log.end_run(run)
    return {"rows": written, "seconds": seconds, "CPU s": spent}


def make_shard(attacker: int, defender: int, images: Ints) -> MadeShard:
    """The games of an attacker against a defender on these images: margins fall and hits come nearer with
    the square root of the turn, the faster the stronger the attacker."""
    rng = np.random.default_rng((attacker, defender, int(images[0])))
    hard = np.random.default_rng(1).random(int(images[-1]) + 1)[images]
    turn = np.arange(1, BUDGET + 1)
    pull = (0.15 + 0.03 * attacker) * (1 - 0.15 * defender)
    noise = 0.3 * rng.standard_normal((len(images), BUDGET)) * (defender > 0)
    margin = 0.5 + 2 * hard[:, None] - pull * np.sqrt(turn) + 0.3 * rng.standard_normal(noise.shape)
    far = (1 + 2 * hard[:, None]) / np.sqrt(turn) * (0.5 + rng.random(noise.shape))
    refused = (rng.random(noise.shape) < 0.01) & (defender == len(DEFENDERS) - 1)
    asked = np.array([13, 12] if defender else [1, 0])
    story = _Story(
        images=images,
        label=np.random.default_rng(2).integers(0, CLASSES, int(images[-1]) + 1)[images],
        clean=hard > 1 - CLEAN,
        margin=margin + noise,
        l2=far,
        refused=refused,
        flagged=refused | ((rng.random(noise.shape) < 0.01) & (defender == len(DEFENDERS) - 1)),
        asked=asked,
        wrong=rng.binomial(asked, (1 / (1 + np.exp(4 * margin)))[..., None]) if defender else 1 * (asked > 0),
        digest=rng.integers(0, 2**16, noise.shape),
    )
    return MadeShard(story.volleys(), {at: story.marks(at) for at in (0, *AT)}, story.games(rng))


@dataclass(frozen=True, eq=False)
class _Story:
    """A shard's games, [G] or, for each turn, [G,BUDGET]; `margin` is what the defender answered; of `asked`
    [2] fresh answers to a query `wrong` [G,BUDGET,2] or [2] were."""

    images: Ints
    label: Ints
    clean: Bools
    margin: Floats
    l2: Floats
    refused: Bools
    flagged: Bools
    asked: Ints
    wrong: Ints
    digest: Ints

    @property
    def hit(self) -> Bools:
        return self._wins & (self.l2 <= THREAT.epsilon)

    @property
    def _wins(self) -> Bools:
        return (self.margin < 0) & ~self.refused & ~self.clean[:, None]

    def volleys(self) -> list[QueryRows]:
        game, hit = np.flatnonzero(~self.clean), self.hit
        nearest = np.minimum.accumulate(np.where(hit, self.l2, np.inf), axis=1)
        better = nearest < np.concatenate([np.full((len(nearest), 1), np.inf), nearest[:, :-1]], axis=1)
        wrong = (self.label + 1)[:, None] % CLASSES
        label = np.where(self.refused, -1, np.where(self.margin < 0, wrong, self.label[:, None]))
        return [
            QueryRows(
                purpose=PURPOSES[t % 3 if t else 3],
                game=game,
                turn=np.full(len(game), t + 1),
                account=np.zeros(len(game), np.int64),
                label=label[game, t],
                refused=self.refused[game, t],
                flagged=self.flagged[game, t],
                margin=self.margin[game, t],
                l2=self.l2[game, t],
                linf=self.l2[game, t] / 20,
                hit=hit[game, t],
                outside=(self._wins & ~hit)[game, t],
                better=better[game, t],
                digest=self.digest[game, t],
            )
            for t in range(BUDGET)
        ]

    def marks(self, at: int) -> MarkRows:
        """At 0 on the clean images."""
        turn, said = self.standing(at)
        last = self.l2[:, at - 1] if at else np.full(len(self.images), np.nan)
        return MarkRows(at=at, game=np.arange(len(self.images)), turn=turn, query_l2=last, **said)

    def standing(self, at: int) -> tuple[Ints, dict[str, NDArray[Any]]]:
        """The turn of the nearest hit by a count, 0 for none, and the verdicts on it; at 0 on the clean
        image."""
        games = np.arange(len(self.images))
        near = np.where(self.hit[:, : max(at, 1)], self.l2[:, : max(at, 1)], np.inf)
        place = near.argmin(axis=1)
        held = np.isfinite(near[games, place]) & (at > 0)
        lost = held | self.clean
        asked = np.where((lost | (at == 0))[:, None], self.asked, 0)
        wrong = np.broadcast_to(self.wrong, (*self.l2.shape, 2))[games, place]
        wrong = np.where(self.clean[:, None], asked, wrong * held[:, None])
        l2 = np.where(held, self.l2[games, place], np.nan)
        return np.where(held, place + 1, 0), {
            "answered": lost,
            "wrong": wrong,
            "asked": asked,
            "again": np.full(len(games), np.nan),
            "base": wrong.sum(axis=1) * 2 > asked.sum(axis=1),
            "l2": l2,
            "linf": l2 / 20,
        }

    def games(self, rng: np.random.Generator) -> GameRows:
        count, never = len(self.images), np.zeros(len(self.images), np.int64)
        _, said = self.standing(BUDGET)
        first = np.where(self.hit.any(axis=1), self.hit.argmax(axis=1) + 1, 0)
        pixels = rng.integers(0, 256, (count, *SHAPE)) / 255 + rng.choice([-8, 8], (count, *SHAPE)) / 255
        return GameRows(
            game=np.arange(count),
            key=self.images,
            label=self.label,
            target=never - 1,
            reason=["clean" if clean else "budget" for clean in self.clean.tolist()],
            queries=np.where(self.clean, 0, BUDGET),
            insider_queries=never,
            refused=self.refused.sum(axis=1) * ~self.clean,
            hit_at=first,
            accepted_at=never,
            final=pixels.clip(0, 1).astype(np.float32),
            **said,
        )


def _run(games: int) -> RunInfo:
    described = {"games": games, "drawn": games, "shard": SHARD, "repeats": 1, "seed": 0, "at": list(AT)}
    described |= {"threat": THREAT.model_dump(mode="json"), "votes": 25}
    matches = [described] * (len(ATTACKERS) * len(DEFENDERS))
    versions = {"blackbox-arena": "0", "numpy": np.__version__}
    resolved = {"fresh": False, "matches": matches, "size": "", "sizes": []}
    return RunInfo("growth", "Made up", 0, versions, "none", "growth", batch=SHARD, resolved=resolved)


def _match(number: int, attacker: int, defender: int) -> MatchInfo:
    return MatchInfo(
        number=number,
        fingerprint=f"growth {number}",
        attacker=ATTACKERS[attacker],
        attacker_params={"strength": attacker},
        defender=DEFENDERS[defender],
        defender_params={"defenders": [{"name": DEFENDERS[defender]}]},
        classifier="made-up",
        classifier_sha="c0ffee",
        dataset="made-up",
        dataset_sha="beef",
        threat=THREAT,
        classes=CLASSES,
        image_shape=SHAPE,
        at=AT,
        verdict="vote" if defender else "answered",
        utility=500,
        answers_are_facts=defender == 0,
    )
