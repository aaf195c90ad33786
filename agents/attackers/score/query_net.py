"""QueryNet: squares and steps of surrogates, which learn from the queries of all games."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from agents.attackers.parts.estimates import unit
from agents.attackers.parts.learnt_surrogates import Pairs, Surrogate
from agents.attackers.score.random_search import check_period, falls, freeze, search
from agents.attackers.score.square import squares
from agents.parameters import check_parameters
from arena import draws
from arena.players import Answers, Asking, Attacker, Games, Loss, Move, Needs, Play, Volley, relay
from arena.rules.losses import attack_loss

STEPS = {False: (1, 2.0), True: (10, 0.5)}
"""Steps on a surrogate, and their length in units of epsilon: one as long as the ball is wide; in targeted
games those of the code for epsilon = 8/255."""


@dataclass(frozen=True)
class QueryNet(Attacker):
    """QueryNet (Chen, Huang, Tao and Huang, "QueryNet: Attack by multi-identity surrogates", 2021), l_inf and
    l_2, untargeted and targeted, as "Adversarial Attack on Attackers" (NeurIPS 2022) plays it.

    A search with one query a step. At each step S surrogates are trained on the queries and answers of all
    games so far. Each proposes a step down its own cross-entropy from the incumbent, and Square Attack
    proposes a square. Of the S + 1 candidates that one is asked for whose loss, by the surrogates together,
    is the lowest. A surrogate's weight in this is 1 at first, then the share of the candidates last chosen
    from it that lowered the victim's loss. Square has such a share, too: once it is as large as any, squares
    are asked alone, to the end. The clean image is asked first, for the surrogates to learn from, then
    Square's stripes.

    It learns across games: the more of them a shard holds (`shard` of a scenario), the more it learns from,
    and with fewer than `least_images` games it becomes Square Attack at once. A note `surrogates` in the log
    says when they stopped. The same shard is played the same again on a CPU; on a GPU some sums vary.

    Three things are not as in the paper. The surrogates are small residual networks without architecture
    search (there PC-DARTS, of 6, 8 and 10 layers and 16 channels). They are trained on fewer and smaller
    batches (there 500 of 128 at each step; `depths = [6, 8, 10]`, `first_batches = 500`, `batches = 500` and
    `batch = 128` play that on a GPU), with a learning rate that falls to 0 in each training. And the last
    `pairs` queries are kept, not all.

    Attributes:
        p, schedule_length, refresh_every: as those of `square`.
        loss: what is minimised, of the victim and of the surrogates.
        depths: residual blocks of each surrogate: there are S of them.
        width: channels of a surrogate.
        first_batches, batches: batches of the first training and of each later one.
        batch: pairs in a batch.
        learning_rate: of the surrogates' SGD, at the beginning of each training.
        least_images: where fewer candidates of one kind were asked for, its share counts as 0.
        pairs: queries that are kept; each takes the memory of an image in float32.
    """

    p: float = 0.05
    loss: Loss = "margin"
    schedule_length: int = 10_000
    refresh_every: int = 0
    depths: tuple[int, ...] = (2, 3)
    width: int = 16
    first_batches: int = 100
    batches: int = 20
    batch: int = 64
    learning_rate: float = 0.1
    least_images: int = 10
    pairs: int = 20_000

    needs = Needs(feedback="scores", objectives=("first", "submit"))
    across_games = True

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"p must be above 0 and at most 1; found {self.p}")
        if not self.depths or min(self.depths) < 0:
            raise ValueError(f"depths must be numbers of blocks, at least one; found {list(self.depths)}")
        counts = ("schedule_length", "width", "first_batches", "batches", "least_images", "pairs")
        check_parameters(self, positive=("learning_rate",), counts=counts)
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, to be normalised; found {self.batch}")
        check_period("refresh_every", self.refresh_every)

    def play(self, games: Games) -> Play:
        if not len(games.open):
            return
        crew, noted = Crew(self, games), False

        def answer(move: Move) -> Asking:
            nonlocal noted
            if crew.retired and not noted:
                noted = True
                yield from games.note("surrogates", "retired", games.open)
            answers = yield move
            if isinstance(move, Volley):
                crew.hear(move.x, answers)
            return answers

        yield from relay(self.attack(games, crew), answer)

    def attack(self, games: Games, crew: Crew) -> Play:
        answers = yield from games.ask(games.x0[games.open], games.open, "clean")
        yield from freeze(games, games.x0, answers)
        yield from search(
            games,
            crew.squares.start(),
            crew.propose,
            crew.accept,
            loss=self.loss,
            refresh_every=self.refresh_every,
        )


class Crew:
    """The S surrogates and Square of one shard.

    Attributes:
        weights: [S+1], the share of what each proposed last that lowered the loss; Square is the last.
        retired: whether the surrogates have stopped.
        chosen: [n], who proposed the last candidates; None: Square, without being compared.
    """

    def __init__(self, attacker: QueryNet, games: Games) -> None:
        self.attacker, self.games = attacker, games
        self.squares = squares(games, attacker.p, attacker.schedule_length)
        self.pairs = Pairs(games, attacker.pairs)
        self.surrogates = [
            Surrogate(
                games,
                width=attacker.width,
                depth=depth,
                learning_rate=attacker.learning_rate,
                seed=draws.derive(games.seed, "surrogate", number),
            )
            for number, depth in enumerate(attacker.depths)
        ]
        self.weights = games.x0.new_ones(len(self.surrogates) + 1)
        self.weights[-1] = 0
        self.retired, self.trained = False, False
        self.chosen: Tensor | None = None
        self.y = games.label if games.target is None else games.target

    def hear(self, x: Tensor, answers: Answers) -> None:
        """Learn what `x` [n,C,H,W] was answered."""
        if not self.retired:
            self.pairs.add(self.games, x, answers)

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        """What is asked for at step t from incumbents `x` [n,C,H,W] of games `i` [n]."""
        square = self.squares.propose(t, x, i)
        if self.retired or not len(self.pairs):
            self.chosen = None
            return square
        self.train()
        candidates = torch.stack([*(self.descend(s, x, i) for s in self.surrogates), square])
        self.chosen = self.judge(candidates, i).argmin(dim=0)
        return candidates[self.chosen, torch.arange(len(i), device=i.device)]

    def accept(self, new: Tensor, best: Tensor, i: Tensor) -> Tensor:
        """Whether the loss falls, [n]; the weights follow."""
        lower = falls(new, best, i)
        if self.chosen is not None:
            self.weights = shares(self.chosen, lower, len(self.weights), self.attacker.least_images)
            self.retired = bool(self.weights[-1] >= self.weights.amax())
            if self.retired:
                self.pairs.forget()
        return lower

    def train(self) -> None:
        """Train each surrogate on the pairs so far."""
        attacker = self.attacker
        for surrogate in self.surrogates:
            batches = attacker.batches if self.trained else attacker.first_batches
            surrogate.train(self.pairs, batches, attacker.batch)
        self.trained = True

    def descend(self, surrogate: Surrogate, x: Tensor, i: Tensor) -> Tensor:
        """Candidates [n,C,H,W]: down the surrogate's cross-entropy from `x`, as far as the ball is wide."""
        games = self.games
        steps, length = STEPS[games.threat.targeted]
        for _ in range(steps):
            up = surrogate.gradient(x, self.y[i], self.cross_entropy)
            up = up.sign() if games.threat.norm == "linf" else unit(up)
            x = games.project(x - length * games.epsilon * up, i)
        return x

    def judge(self, candidates: Tensor, i: Tensor) -> Tensor:
        """The surrogates' mean loss, by their weights, of candidates [S+1,n,C,H,W]: [S+1,n]."""
        every, games = candidates.flatten(0, 1), self.games
        y, targeted = self.y[i].repeat(len(candidates)), games.threat.targeted
        total = every.new_zeros(len(every))
        for surrogate, weight in zip(self.surrogates, self.weights, strict=False):
            loss = attack_loss(surrogate.logits(every), y, self.attacker.loss, targeted=targeted, logits=True)
            total += weight * loss
        return (total / len(self.surrogates)).view(len(candidates), -1).nan_to_num(nan=torch.inf)

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        targeted = self.games.threat.targeted
        return attack_loss(logits, y, "cross-entropy", targeted=targeted, logits=True)


def shares(chosen: Tensor, lower: Tensor, kinds: int, least: int) -> Tensor:
    """Of the candidates of each kind that were `chosen` [n], the share that was `lower` [n]: [kinds]; 0 for a
    kind with fewer than `least`."""
    of = one_hot(chosen, kinds)
    count, fell = of.sum(dim=0), (of * lower.unsqueeze(1)).sum(dim=0)
    return torch.where(count >= least, fell / count.clamp_min(1), 0.0)
