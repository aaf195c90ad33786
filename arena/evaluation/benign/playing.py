"""Benign clients and defended classifiers, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from arena import draws
from arena.classifiers import Classifier
from arena.classifiers.served import asking, served_in
from arena.classifiers.threads import computing_threads
from arena.datasets import Split, draw
from arena.evaluation.benign.client import Client, Heard
from arena.evaluation.benign.counting import Counts
from arena.evaluation.benign.history import History
from arena.evaluation.benign.kinds import CLIENTS
from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.benign.plan import Traffic
from arena.evaluation.benign.service import Service, heard, rows_of
from arena.evaluation.cost import timed
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.modes import own_modes
from arena.players import Response, Rows
from arena.progress import tell
from arena.rules.outcome import labels_of


class BenignTraffic:
    """Benign clients around a classifier, and what stacks of defenders take from them.

    The clients of a kind come side by side to one service, each with an account of its own: a turn holds one
    image of each, and what was answered is remembered before the next. They are around the first images in
    the drawing order of `seed`, one each; what others sent before them is around later ones.

    Args:
        classifier: the undefended one.
        traffic: as `Traffic.within` gives it for the split.
    """

    def __init__(self, classifier: Classifier, split: Split, traffic: Traffic, *, seed: int = 0) -> None:
        self.classifier, self.split, self.traffic, self.seed = classifier, split, traffic, seed
        every = draw(split, seed, len(split), lambda place: torch.ones(len(place), dtype=torch.bool)).index
        self._own, others = every[: traffic.sessions], every[traffic.sessions :]
        self._others = others if len(others) else self._own
        self._bare = StackOracle(Stack(classifier))

    @own_modes()
    @computing_threads(1)
    def of(
        self,
        stack: Stack,
        parts: Collection[tuple[str, str]] | None = None,
        *,
        delay: bool = True,
        hear: Callable[[BenignLoss], object] = lambda _: None,
    ) -> list[BenignLoss]:
        """What a stack of prepared defenders takes.

        Args:
            parts: the pairs of client and history that are wanted; None: all that the traffic has for it.
            delay: whether that is measured, where something defends and no paid service answers.
            hear: hears each result at once.
        """
        known = [part for part in self.traffic.parts(stack) if parts is None or part in parts]
        services: dict[str, Service] = {}
        paid = served_in(self.classifier.module) is not None
        delay, found = delay and not paid and not stack.undefended, []
        with asking("utility"):
            for place, (client, history) in enumerate(known):
                tell(f"{client} clients after {history}", place, len(known))
                if history not in services:
                    services = {history: self._service(stack, history)}
                counts = self._played(services[history], CLIENTS[client])
                found.append(counts.loss(client, history, delay=delay))
                hear(found[-1])
        return found

    def _service(self, stack: Stack, history: str) -> Service:
        known = self.split.take(self._own).to(stack.base.device)
        seed = draws.derive(self.seed, "benign", history)
        return Service(stack, History.read(history), known, self._pictures, seed)

    def _pictures(self, first: int, count: int) -> Tensor:
        """Images of others, [count,C,H,W]."""
        place = (first + torch.arange(count)) % len(self._others)
        return self.split.take(self._others[place]).to(self.classifier.device)

    def _played(self, service: Service, client: Client) -> Counts:
        """The sessions of all clients of a kind."""
        oracle, x = service.opened(), service.known
        counts = Counts(len(x), self.traffic.answers(service.stack), x.device)
        # Kinds have draws of their own, but the same images; a client's are those after any history.
        key = torch.arange(len(x), device=x.device) + list(CLIENTS).index(client.name) * 2**16
        sending = client.send(x, key, draws.derive(self.seed, "client"))
        image = next(sending)
        for turn in range(1, client.queries + 1):
            told = self._turn(oracle, image, key, turn, counts)
            if turn < client.queries:
                image = sending.send(told)
        return counts

    def _turn(self, oracle: StackOracle, image: Tensor, key: Tensor, turn: int, counts: Counts) -> Heard:
        """An image of each client answered, and what they hear."""
        label = torch.full_like(key, -1)
        scores = image.new_full((len(key), oracle.classes), torch.nan)
        counts.closed_out()
        mine = (~counts.closed).nonzero()[:, 0]
        if len(mine):
            x, rows = image[mine], rows_of(mine, key[mine], turn)
            first = turn % 2 == 0  # taking turns in going first, so that neither has the warmer caches
            response, plain, seconds = self._both(oracle, x, rows, defended_first=first)
            told = heard(response)
            altered = self._altered(oracle, x, rows, told.label, plain, counts.draws)
            kept = torch.ones_like(mine, dtype=torch.bool)
            _, remembering = timed(x.device, lambda: oracle.commit(kept))
            counts.took((seconds + remembering) / len(mine))
            counts.add(mine, response, told.label, plain, altered)
            label[mine], scores[mine] = told.label, told.scores
        return Heard(label, scores, label >= 0)

    def _both(
        self, oracle: StackOracle, x: Tensor, rows: Rows, *, defended_first: bool
    ) -> tuple[Response, Tensor, float]:
        """The defended answers, the undefended labels [m], and how many seconds more the former took."""

        def defended() -> tuple[Response, float]:
            return timed(x.device, lambda: oracle.respond(x, rows))

        def undefended() -> tuple[Tensor, float]:
            # By the same way, so that what an oracle takes is no delay of the defender's.
            return timed(x.device, lambda: labels_of(self._bare.respond(x, rows).scores))

        if defended_first:
            (response, seconds), (plain, own) = defended(), undefended()
        else:
            (plain, own), (response, seconds) = undefended(), defended()
        return response, plain, seconds - own

    def _altered(
        self, oracle: StackOracle, x: Tensor, rows: Rows, label: Tensor, plain: Tensor, answers: int
    ) -> Tensor:
        """[m] the share of fresh answers, the clients' own the first, with another label than `plain` [m]; 0
        where clients got no label, which is a whole loss already."""
        wrong = ((label >= 0) & (label != plain)).double()
        if answers == 1:
            return wrong
        more = rows.repeat(answers - 1)
        again: Response = oracle.again(x.repeat_interleave(answers - 1, 0), more)
        others = heard(again).label.view(-1, answers - 1)
        wrong += ((others >= 0) & (others != plain[:, None])).sum(dim=1)
        return torch.where(label >= 0, wrong / answers, 0.0)
