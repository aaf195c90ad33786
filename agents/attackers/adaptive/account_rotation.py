"""account-rotation: spread another attacker's queries over the accounts that the threat grants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.ranks import rank_within
from agents.attackers.parts.wrapping import Around
from agents.parameters import check_choice, check_parameters
from arena.players import Answers, Asking, Attacker, Games, Move, Play, Volley, relay


@dataclass(frozen=True)
class AccountRotation(Around):
    """A wrapper that asks from one account after the other, against Stateful Detection (Chen et al., 2020).

    A detector that watches accounts separately sees of each only what it asks: one that flags an account by
    its 50 nearest earlier queries sees nothing of a client who leaves it after 49. A closed account is left
    at once, whatever the policy: the next one that is open takes over, and after the last the first again.
    So that no query goes to an account that the one before it has closed, rows of a game go one to a volley.
    With one account it is the attacker inside.

    Of each game the notes "accounts used" and "accounts burned" say, as it ends, from how many accounts it
    asked and how many of them were closed.

    Attributes:
        of: the attacker inside; it knows nothing of accounts.
        policy: when an account is left: after `every` of its queries, after one that was `refused`, or not
            before it is `banned`.
        every: queries from one account until the next one takes over, under policy "every".
    """

    of: Attacker
    policy: Literal["every", "refused", "banned"] = "every"
    every: int = 49

    def __post_init__(self) -> None:
        check_choice(self, policy=("every", "refused", "banned"))
        check_parameters(self, counts=("every",))

    def play(self, games: Games) -> Play:
        accounts = Accounts(self, games)

        def answer(move: Move) -> Asking:
            if isinstance(move, Volley) and move.account is None and games.threat.accounts > 1:
                reply = yield from self.spread(games, accounts, move)
            else:
                reply = games.state = yield move
            yield from accounts.tell(~reply.open)
            return reply

        yield from relay(self.of.play(games), answer)
        yield from accounts.tell(torch.ones_like(games.state.open))

    def spread(self, games: Games, accounts: Accounts, move: Volley) -> Asking:
        """Send a volley, a game's rows one after the other, each from the account whose turn it is."""
        rank, n, state = rank_within(move.game), len(move.game), games.state
        label = torch.full_like(move.game, -1)
        answered, refused = (torch.zeros_like(move.game, dtype=torch.bool) for _ in range(2))
        scores = None
        if games.threat.feedback != "label":
            scores = games.x0.new_full((n, games.classes), torch.nan)
        for turn in range(int(rank.max()) + 1 if n else 1):
            rows = ((rank == turn) & state.open[move.game]).nonzero().squeeze(1)
            if turn and not len(rows):
                break
            game = move.game[rows]
            account = accounts.next(game, state.banned)
            state = yield replace(move, x=move.x[rows], game=game, account=account)
            accounts.heard(game, state)
            label[rows], answered[rows], refused[rows] = state.label, state.answered, state.refused
            if scores is not None and state.scores is not None:
                scores[rows] = state.scores
        games.state = replace(
            state, game=move.game, label=label, scores=scores, answered=answered, refused=refused
        )
        return games.state


class Accounts:
    """From which account each of G games asks next.

    Attributes:
        current: [G] the account that the game asks from.
        asked: [G] how many queries it has asked from there since it came to it.
        leaves: [G] bool, it asks the next query from another one.
        used: [G,A] bool, the accounts that it has asked from.
        told: [G] bool, its notes are left.
    """

    def __init__(self, by: AccountRotation, games: Games) -> None:
        self.by, self.games = by, games
        self.current = torch.zeros_like(games.label)
        self.asked = self.current.clone()
        self.leaves = torch.zeros_like(games.state.open)
        self.used = torch.zeros_like(games.state.banned)
        self.told = ~games.state.open

    def next(self, game: Tensor, banned: Tensor) -> Tensor:
        """The accounts [n] from which games `game` [n] (each once) ask, given the accounts [G,A] closed."""
        count, current, closed = banned.shape[1], self.current[game], banned[game]
        leaves = self.leaves[game] | closed.gather(1, current.unsqueeze(1)).squeeze(1)
        order = (current.unsqueeze(1) + torch.arange(1, count + 1, device=game.device)) % count
        following = order.gather(1, (~closed).gather(1, order).long().argmax(dim=1, keepdim=True)).squeeze(1)
        self.current[game] = current = torch.where(leaves, following, current)
        self.asked[game] = torch.where(leaves, 0, self.asked[game])
        self.used[game, current] = True
        return current

    def heard(self, game: Tensor, answers: Answers) -> None:
        """Enter the answers to a query of each of the games `game` [n]."""
        self.asked[game] += (answers.answered | answers.refused).long()
        by = self.by.policy
        if by == "every":
            self.leaves[game] = self.asked[game] >= self.by.every
        else:
            self.leaves[game] = answers.refused if by == "refused" else False

    def tell(self, ended: Tensor) -> Asking:
        """Note of the games that have `ended` [G] bool which accounts they took, each once."""
        i = (ended & ~self.told).nonzero().squeeze(1)
        if len(i):
            self.told[i] = True
            burned = self.games.state.banned[i].sum(dim=1)
            yield from self.games.note("accounts used", self.used[i].sum(dim=1), i)
            yield from self.games.note("accounts burned", burned, i)
        return self.games.state
