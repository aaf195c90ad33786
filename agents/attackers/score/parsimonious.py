"""Parsimonious attack: the vertex of the ball by local search over blocks."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.finite_differences import keep_hits
from agents.attackers.score.random_search import check_period
from arena.players import Answers, Attacker, Games, Loss, Move, Needs, Play


@dataclass(frozen=True)
class Parsimonious(Attacker):
    """Parsimonious attack, "ECO" elsewhere (Moon, An and Song, ICML 2019, Algorithms 1 to 3); l_inf.

    The image is x0 + epsilon s, s in {-1, +1}^d, at first all -1. The set of blocks (squares of one channel)
    where s is +1 is sought by local search, a mini-batch of blocks at a time: lazy greedy insertion, then
    deletion. Each asks all its candidates at once and keeps the best; after that, a candidate's gain is asked
    again when it is the best left, and the block is flipped if it still is. When all mini-batches are done
    the blocks are halved; single values are gone through again and again, in new orders.

    Two things not as in the authors' code: the first flip of a phase has to lower the loss too (there it is
    made in any case), as has every other (there a tie flips); and the image is not asked again at the
    beginning of each mini-batch, unless `refresh_every` says so.

    Attributes:
        block: the side of the first blocks, a power of two; None: an eighth of the image's (4 at 32 pixels,
            32 at 224 and 256).
        batch: the blocks of a mini-batch.
        loss: what is minimised; the authors' is the cross-entropy.
        refresh_every: ask the image again at the beginning of every so many mini-batches; 0: never; 1: as in
            the authors' code.
    """

    block: int | None = None
    batch: int = 64
    loss: Loss = "cross-entropy"
    refresh_every: int = 0

    needs = Needs(feedback="scores", norms=("linf",), objectives=("first", "submit"))

    def __post_init__(self) -> None:
        if self.block is not None and (self.block < 1 or self.block & (self.block - 1)):
            raise ValueError(f"block must be a power of two; found {self.block}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1; found {self.batch}")
        check_period("refresh_every", self.refresh_every)

    def play(self, games: Games) -> Play:
        search = LocalSearch(games, self)
        while len(i := games.open):
            search.turn_pages(i)
            yield from search.ask(i)


class LocalSearch:
    """The local search of G games, each at its own place. B is `batch`.

    Attributes:
        sign: [G,C,H,W], s; value: [G], its loss, NaN where it is to be asked.
        level: [G], how often blocks were halved; order: [G,N], the blocks of the level in their order, of
            which the mini-batch begins at place [G].
        deleting: [G] bool, the phase; listed: [G] bool, its candidates were asked.
        gain: [G,B], of the blocks of the mini-batch: by how much flipping them would raise the loss; +inf for
            those that are no candidates.
        batches: [G], the mini-batches begun.
    """

    def __init__(self, games: Games, rules: Parsimonious) -> None:
        self.games, self.rules, self.batch = games, rules, rules.batch
        self.blocks = Blocks(games.x0.shape[1:], rules.block, games.x0.device)
        zero = torch.zeros_like(games.label)
        self.sign = -torch.ones_like(games.x0)
        self.value = torch.full_like(games.x0[:, 0, 0, 0], torch.nan)
        self.level, self.place, self.batches = zero.clone(), zero.clone(), zero.clone()
        self.order = zero.unsqueeze(1).repeat(1, max(self.blocks.count) + self.batch)
        self.deleting, self.listed = zero.bool(), zero.bool()
        self.gain = self.value.unsqueeze(1).repeat(1, self.batch)
        self.shuffle(games.open)
        self.begin_phase(games.open)

    def shuffle(self, i: Tensor) -> None:
        """A new order of the blocks of their level in games `i` [n]; -1 follows the last."""
        most = max(self.blocks.count)
        u = self.games.uniform((most,), i)
        beyond = torch.arange(most, device=i.device) >= self.blocks.counts[self.level[i]].unsqueeze(1)
        order = u.masked_fill_(beyond, 2.0).argsort(dim=1, stable=True)
        self.order[i] = -1
        self.order[i, :most] = torch.where(beyond, -1, order)
        self.place[i] = 0

    def members(self, i: Tensor) -> Tensor:
        """The blocks [n,B] of the mini-batch of games `i` [n]; -1 behind the last."""
        places = self.place[i].unsqueeze(1) + torch.arange(self.batch, device=i.device)
        return self.order[i].gather(1, places)

    def begin_phase(self, i: Tensor) -> None:
        """List the candidates of the phase in games `i` [n]: gains of -inf until they are asked."""
        members = self.members(i)
        corner = self.blocks.corner[self.level[i].unsqueeze(1), members.clamp_min(0)]
        positive = self.sign[i].flatten(1).gather(1, corner) > 0
        candidate = (members >= 0) & (positive == self.deleting[i].unsqueeze(1))
        self.gain[i] = torch.where(candidate, -torch.inf, torch.inf).to(self.gain.dtype)
        self.listed[i] = False

    def turn_pages(self, i: Tensor) -> None:
        """Games `i` [n] whose phase has no candidates left begin the next one that has some."""
        while len(i := i[self.gain[i].amin(dim=1) == torch.inf]):
            batch_done = i[self.deleting[i]]
            self.deleting[i] = ~self.deleting[i]
            self.place[batch_done] += self.batch
            level_done = batch_done[self.place[batch_done] >= self.blocks.counts[self.level[batch_done]]]
            if len(level_done):
                self.level[level_done] = (self.level[level_done] + 1).clamp_max(len(self.blocks.count) - 1)
                self.shuffle(level_done)
            self.batches[batch_done] += 1
            if every := self.rules.refresh_every:
                self.value[batch_done[self.batches[batch_done] % every == 0]] = torch.nan
            self.begin_phase(i)

    def ask(self, i: Tensor) -> Play:
        """Ask what games `i` [n] want to know next, and flip what it tells them to."""
        listed, rows = self.listed[i].unsqueeze(1), torch.arange(len(i), device=i.device)
        top = self.gain[i].argmin(dim=1)
        slots = torch.arange(self.batch, device=i.device)
        flips = torch.where(listed, slots == top.unsqueeze(1), self.gain[i] == -torch.inf)
        itself = self.value[i].isnan().unsqueeze(1)
        loss = yield from self.losses(i, torch.cat([itself, flips], dim=1))
        value = torch.where(itself, loss[:, :1], self.value[i].unsqueeze(1))
        loss = loss[:, 1:]
        rise = torch.where(loss.isfinite(), loss - value, torch.inf)
        gain = torch.where(flips, rise, self.gain[i])
        top = torch.where(self.listed[i], top, gain.argmin(dim=1))
        still = gain[rows, top] <= gain.amin(dim=1)
        falls = still & (gain[rows, top] < 0)
        self.value[i] = torch.where(falls, loss[rows, top], value.squeeze(1))
        gain[rows, top] = torch.where(falls, torch.inf, gain[rows, top])
        self.gain[i] = gain.masked_fill_((still & ~falls).unsqueeze(1), torch.inf)
        self.listed[i] = True
        self.sign[i[falls]] = self.flipped(i[falls], top[falls])

    def losses(self, i: Tensor, wanted: Tensor) -> Generator[Move, Answers, Tensor]:
        """The losses [n,1+B] of games `i` [n] where they are `wanted`, else +inf: of the image as it is, and
        with each block of the mini-batch flipped. Hits are noted and stood by."""
        games, bare = self.games, self.value.new_full(wanted.shape, torch.inf)
        loss, wrong = bare.clone(), torch.zeros_like(wanted)
        rows, slots = wanted.nonzero(as_tuple=True)
        for begin in range(0, len(rows), games.max_rows):
            row, slot = (places[begin : begin + games.max_rows] for places in (rows, slots))
            alive = games.state.open[i[row]]
            row, slot = row[alive], slot[alive]
            answers = yield from games.ask(self.images(i[row], slot - 1), i[row], "search")
            loss[row, slot], wrong[row, slot] = games.loss(answers, self.rules.loss), games.wrong(answers)
        won = wrong.any(dim=1).nonzero().squeeze(1)
        if len(won):
            best, slot = torch.where(wrong[won], loss[won], torch.inf).min(dim=1, keepdim=True)
            images = self.images(i[won], slot.squeeze(1) - 1).unsqueeze(1)
            yield from keep_hits(games, images, i[won], torch.ones_like(slot, dtype=torch.bool), best)
        return loss

    def images(self, i: Tensor, slot: Tensor) -> Tensor:
        """The images [n,C,H,W] of games `i` [n] with the blocks at `slot` [n] flipped; -1: none."""
        games = self.games
        return games.project(games.x0[i] + games.epsilon * self.flipped(i, slot), i)

    def flipped(self, i: Tensor, slot: Tensor) -> Tensor:
        """The signs [n,C,H,W] of games `i` [n] with the blocks at `slot` [n] flipped; -1: none."""
        places = self.place[i] + slot.clamp_min(0)
        block = torch.where(slot < 0, -1, self.order[i, places])
        inside = self.blocks.number[self.level[i]] == block.view(-1, 1, 1, 1)
        return torch.where(inside, -self.sign[i], self.sign[i])


class Blocks:
    """The blocks of images [C,H,W] on L levels, from the largest to single values.

    Attributes:
        number: [L,C,H,W], the number of the block in which a value lies.
        count: how many there are on each level; counts: the same, [L].
        corner: [L,N], the first value of each block, flattened.
    """

    def __init__(self, shape: Sequence[int], first: int | None, device: torch.device) -> None:
        channels, height, width = shape
        side = first or 2 ** max(0, round(math.log2(min(height, width) / 8)))
        sides = [side >> k for k in range(side.bit_length())]
        levels = []
        for s in sides:
            down, across = -(-height // s), -(-width // s)
            row, column = torch.arange(height) // s, torch.arange(width) // s
            plane = row.unsqueeze(1) * across + column
            levels.append(plane + down * across * torch.arange(channels).view(-1, 1, 1))
        self.count = [int(level.max()) + 1 for level in levels]
        self.number = torch.stack(levels).to(device)
        self.counts = torch.tensor(self.count, device=device)
        self.corner = self.counts.new_zeros(len(sides), max(self.count))
        place = torch.arange(levels[0].numel(), device=device)
        for corner, number in zip(self.corner, self.number, strict=True):
            corner.scatter_reduce_(0, number.flatten(), place, "amin", include_self=False)
