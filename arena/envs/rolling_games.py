"""Where the games of an environment are played: a Referee whose places are dealt anew as games end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray
from torch import Tensor

from arena.classifiers.threads import computing_threads
from arena.envs.actions import Action
from arena.envs.endless_games import EndlessGames
from arena.envs.margins import shown_margin
from arena.envs.setup import EnvSetup
from arena.envs.spaces import LOGIT_LIMIT, Reward, farthest
from arena.game.referee import LONGEST_VOLLEY
from arena.game.shard import GameSetup, seat_games, seed_of
from arena.modes import own_modes
from arena.records.reports import GameRows, Listener
from arena.rules.geometry import distance, quantise
from arena.rules.moves import Answers, Submit, Volley
from arena.rules.outcome import Bools, Floats, Ints
from arena.rules.threat import TOLERANCE

Observation = dict[str, Tensor]
_NUMBERS = (
    "label",
    "target",
    "has_target",
    "answered",
    "refused",
    "answer_label",
    "has_label",
    "has_scores",
)
"""The whole numbers of an observation, held side by side; from `_HEARD` on, what was heard last."""
_HEARD = 3


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What a step brought: [N] rewards, [N] whether the games ended in it, and how those did."""

    reward: Floats
    ended: Bools
    summary: GameRows | None


class RollingGames:
    """`games` games side by side; `key` [N] are their numbers, to which draws are keyed.

    The reward of a step is a function of the answers and the threat:

    - objective `first`: 1 for the hit that wins the game.
    - objective `minimum`: log d - log d', the fall of the log distance of the best hit, from d before to d'
      after the step. Without a hit d is the largest distance possible, 1 (linf) or sqrt(C H W) (l2);
      distances below 1e-6 count as 1e-6. A game's rewards add up to the log of that distance over the last.
    - objective `submit`: 1 at the end if the final image was answered with a hit. The final image is the one
      handed in, which has to be the last one asked or the best one of the game; where none was handed in,
      the best one (a hit before none, then the lowest margin).

    With `reward="margin"` a step pays, besides, the fall of the lowest margin that the answers have shown
    (`arena.envs.margins.shown_margin`), from 1, the highest possible, before one was shown. Images outside
    the ball do not count. These falls add up to 1 less the game's lowest margin.

    Args:
        keeps_sent: keep what was sent last, for pictures.
    """

    @own_modes()
    @computing_threads(1)
    def __init__(
        self,
        setup: EnvSetup,
        games: int,
        seed: int,
        *,
        listener: Listener | None,
        votes: int,
        reward: Reward = "objective",
        keeps_sent: bool = False,
    ) -> None:
        self.setup, self.threat, self.games = setup, setup.threat, games
        self.endless = EndlessGames(setup, seed)
        games_to_play = GameSetup(
            stack=setup.stack,
            openings=self.endless.take(games),
            threat=self.threat,
            defender_seed=seed_of("defender", seed, 0),
            votes=votes,
            max_rows=max(games, LONGEST_VOLLEY),
        )
        self.referee = seat_games(games_to_play, listener)
        self.board = self.referee.board
        self._everyone = torch.arange(games, device=setup.device)
        keeps_sent = keeps_sent or self.threat.objective == "submit"
        self._last = self.board.x0.clone() if keeps_sent else None
        self._best_margin = np.ones(games) if reward == "margin" else None
        self._none = farthest(self.threat.norm, setup.shape)
        self._best, self._best_is_hit = np.full(games, self._none), np.zeros(games, dtype=bool)
        self._numbers = torch.zeros(len(_NUMBERS), games, dtype=torch.int64, device=setup.device)
        self._scores = torch.zeros(games, setup.classes, device=setup.device)
        self._begin(np.arange(games))

    @property
    def open(self) -> Bools:
        """[N] whether the games go on."""
        return self.referee.open

    @property
    def turn(self) -> Ints:
        """[N] queries charged so far."""
        return self.board.ledger.queries

    @own_modes()
    @computing_threads(1)
    def deal(self, games: Ints) -> None:
        """New games in these places; what still went on there is over (`resigned`)."""
        self.leave(games)
        self._redeal(games)
        self._begin(games)

    @own_modes()
    @computing_threads(1)
    def leave(self, games: Ints) -> None:
        """End those of `games` that are open."""
        if len(games := games[self.open[games]]):
            self.referee.end(games, "resigned")

    @own_modes()
    @computing_threads(1)
    def play(self, action: Action) -> StepOutcome:
        """Let the open games that send ask, or hand in their images.

        Raises:
            VolleyError: if an image sent is malformed; nothing is charged then.
        """
        referee, was_open = self.referee, self.open.copy()
        sends = action.send & was_open
        asks, hands_in = np.flatnonzero(sends & ~action.submit), np.flatnonzero(sends & action.submit)
        before = self._best.copy(), None if self._best_margin is None else self._best_margin.copy()
        if len(hands_in):
            place = self._place(hands_in)
            referee.checks.whole(action.image[place], place, once=True)
        if len(asks):
            self._ask(action, asks)
        final_is_hit = self.board.ledger.best_hit.copy()
        if len(hands_in):
            final_is_hit[hands_in] = self._answered_with_a_hit(action.image, hands_in)
            referee.submit(Submit(action.image[place], place))
            if self._last is not None:
                self._last[place] = action.image[place]
        ended = was_open & ~self.open
        reward = self._reward(*before, ended, final_is_hit)
        return StepOutcome(reward, ended, referee.end(np.flatnonzero(ended)) if ended.any() else None)

    @own_modes()
    @computing_threads(1)
    def observe(self) -> Observation:
        """The observations (`spaces.observation_space`) of all games, [N,...] each, of fresh tensors."""
        board, ledger = self.board, self.board.ledger
        margins = [] if self._best_margin is None else [self._best_margin]
        host = np.array([ledger.left, self._best, self._best_is_hit, *margins], dtype=np.float32)
        left, nearest, is_hit, *margin = board.place(host).unsqueeze(2).unbind()
        observation = {
            "image": board.x0.clone(),
            **dict(zip(_NUMBERS, self._numbers.clone().unbind(), strict=True)),
            "answer_scores": self._scores.clone(),
            "left": left,
            "best_distance": nearest,
            "has_best": is_hit.squeeze(1).long(),
        }
        if self.threat.accounts > 1:
            observation["banned"] = board.place(ledger.banned.astype(np.int8))
        if margin:
            observation["best_margin"] = margin[0]
        return observation

    def sent(self) -> Tensor:
        """[N,C,H,W] what was sent last, the clean images before that; not a copy. Needs `keeps_sent`."""
        assert self._last is not None
        return self._last

    def _ask(self, action: Action, asks: Ints) -> None:
        place, everyone = self._place(asks), len(asks) == self.games
        x = action.image if everyone else action.image[place]
        account = action.account if action.account is None or everyone else action.account[place]
        answers = self.referee.ask(Volley(x, place, account))
        self._hear(place, answers)
        if self._best_margin is not None and answers.scores is not None:
            lowest = self._lowest_margin(x, place, answers, answers.scores)
            self._best_margin[asks] = np.minimum(self._best_margin[asks], lowest)
        if self._last is not None:
            self._last[place] = x
        ledger = self.board.ledger
        length = ledger.best_l2 if self.threat.norm == "l2" else ledger.best_linf
        hit = asks[ledger.best_hit[asks]]
        self._best[hit], self._best_is_hit[hit] = length[hit], True

    def _hear(self, place: Tensor, answers: Answers) -> None:
        """Keep what was answered to the games at `place` [n]; NaN and infinities go no further."""
        heard = [answers.answered, answers.refused, answers.label.clamp_min(0), answers.label >= 0]
        mine = slice(None) if place is self._everyone else place
        if answers.scores is not None:
            whole = answers.answered & ~answers.scores.isnan().any(dim=1)
            scores = torch.where(whole.unsqueeze(1), answers.scores, 0.0)
            self._scores[mine] = scores.clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
            heard.append(whole)
        self._numbers[_HEARD : _HEARD + len(heard), mine] = torch.stack(heard)

    def _lowest_margin(self, x: Tensor, place: Tensor, answers: Answers, scores: Tensor) -> Floats:
        """[n] the margins that the answers to images `x` show, infinite where there is none that counts."""
        threat, board = self.threat, self.board
        moved = distance(quantise(x, threat.quantisation), board.x0[place], threat.norm)
        shown = shown_margin(scores, board.goal[place], threat)
        counts = answers.answered & (moved <= threat.epsilon + TOLERANCE) & ~shown.isnan()
        return np.asarray(torch.where(counts, shown, torch.inf).cpu().numpy(), dtype=np.float64)

    def _reward(self, best: Floats, best_margin: Floats | None, ended: Bools, final_is_hit: Bools) -> Floats:
        """[N] the rewards of a step before which the nearest hits and the lowest margins were these."""
        if self.threat.objective == "minimum":
            reward: Floats = np.log(np.maximum(best, TOLERANCE)) - np.log(np.maximum(self._best, TOLERANCE))
        else:
            reward = (ended & final_is_hit).astype(np.float64)
        if best_margin is not None and self._best_margin is not None:
            reward += best_margin - self._best_margin
        return reward

    def _answered_with_a_hit(self, image: Tensor, games: Ints) -> Bools:
        """[n] whether what `games` [n] hand in is the last image asked or the best, and that was a hit."""
        assert self._last is not None
        place, ledger = self._place(games), self.board.ledger
        given = image[place]
        same = [(given == kept[place]).flatten(1).all(dim=1) for kept in (self._last, self.board.best)]
        last, best = torch.stack(same).cpu().numpy()
        return np.asarray((last & ledger.last_hit[games]) | (best & ledger.best_hit[games]))

    def _begin(self, games: Ints) -> None:
        """Forget what was heard of the games that were played before in the places of these."""
        # The classifier was asked in other batches before: at a tie, rounding may have made it wrong since.
        while len(wrong := games[~self.open[games]]):
            self._redeal(wrong)
        place, board = self._place(games), self.board
        self._numbers[:, place], self._scores[place] = 0, 0.0
        self._numbers[0, place] = board.label[place]
        if board.target is not None:
            self._numbers[1, place], self._numbers[2, place] = board.target[place], 1
        if self._last is not None:
            self._last[place] = self.board.x0[place]
        self._best[games], self._best_is_hit[games] = self._none, False
        if self._best_margin is not None:
            self._best_margin[games] = 1
        self.key = np.array(self.board.key.cpu().numpy())

    def _redeal(self, games: Ints) -> None:
        self.referee.redeal(games, self.endless.take(len(games)))

    def _place(self, games: Ints) -> Tensor:
        whole = len(games) == self.games
        return self._everyone if whole else self.board.place(games)


def to_numpy(observation: Observation, types: Mapping[str, np.dtype[Any]]) -> dict[str, NDArray[Any]]:
    """Observations [N,...] on the host in these types (`observation_types`), by one copy."""
    image = observation["image"]
    if image.device.type == "cpu":
        parts = {name: part.numpy() for name, part in observation.items()}
        return {name: part.astype(types[name], copy=False) for name, part in parts.items()}
    # Whole numbers up to 2^24 (budgets among them) are exact in float32.
    flat = [part.reshape(len(image), -1).to(torch.float32) for part in observation.values()]
    widths = np.cumsum([part.shape[1] for part in flat])[:-1]
    columns = np.split(torch.cat(flat, dim=1).cpu().numpy(), widths, axis=1)
    return {
        name: column.reshape(tuple(part.shape)).astype(types[name])
        for (name, part), column in zip(observation.items(), columns, strict=True)
    }


def observation_types(space: Dict) -> dict[str, np.dtype[Any]]:
    """The types of the parts of an observation of one game."""
    return {name: np.dtype(part.dtype) for name, part in space.items()}


def ending(rows: GameRows) -> list[dict[str, Any]]:
    """How each of the ended games ended, for `info`; a game without a hit has no distances."""
    endings = []
    for i in range(len(rows)):
        one: dict[str, Any] = {
            "reason": rows.reason[i],
            "queries": int(rows.queries[i]),
            "refused": int(rows.refused[i]),
            "answered": bool(rows.answered[i]),
            "vote": float(rows.vote[i]),
            "base": bool(rows.base[i]),
            "hit_at": int(rows.hit_at[i]),
        }
        if rows.answered[i]:
            one |= {"l2": float(rows.l2[i]), "linf": float(rows.linf[i])}
        endings.append(one)
    return endings
