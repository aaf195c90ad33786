"""A training, step by step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arena.datasets import Split
from arena.draws import derive
from arena.rules.outcome import labels_of
from arena.training.augment import augmentation
from arena.training.errors import TrainingError
from arena.training.job import Job
from arena.training.objectives import Circumstances, evaluating
from arena.training.schedule import optimiser, scheduler

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Figures:
    """The mean of a loss (in training that of the objective, else the cross-entropy in nats) and accuracy
    over some images."""

    loss: float
    accuracy: float


@contextmanager
def own_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global states on the host and on this device, seeded here and restored afterwards."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.inference_mode(False), torch.enable_grad():
        seed_global(seed, device)
        yield


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the global state of the host and of this device, and of no other device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


class Session:
    """The state of a training, and its next step.

    The global state, seeded by the job, initialises the network; a generator on the host continues from that
    state and draws orders, augmentations and what the objective draws, and dropout uses the global state,
    seeded again.
    """

    def __init__(self, job: Job) -> None:
        recipe, self.device = job.recipe, job.device
        self.network, self.mean, self.std = job.build()
        self.model = job.model(self.network, self.mean, self.std).train()
        self.generator = torch.Generator().set_state(torch.get_rng_state())
        seed_global(derive(job.seed, "dropout"), self.device)
        self.data = _resident(job.data.train, self.device)
        self.epoch_steps, self.steps = recipe.steps(len(self.data))
        self.batch, self.augment = recipe.batch, augmentation(recipe.augment)
        self.objective, self.teacher = recipe.objective, job.teacher
        self.optimiser = optimiser(recipe, self.network)
        self.schedule = scheduler(recipe, self.optimiser, self.steps)
        self.autocast = AUTOCAST.get(recipe.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.ema = recipe.ema
        self.average = None if self.ema is None else copy.deepcopy(self.network)
        self.judged = self.model if self.average is None else job.model(self.average, self.mean, self.std)
        self.order = torch.arange(len(self.data))
        self.step = 0
        self.sums = self._zeros()

    @property
    def trained(self) -> nn.Module:
        """The network as it would be saved now: the moving average if there is one."""
        return self.network if self.average is None else self.average

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def advance(self) -> None:
        """One step of the optimiser."""
        place = self.step % self.epoch_steps
        if place == 0:
            self.order = torch.randperm(len(self.data), generator=self.generator)
            self.sums = self._zeros()
        rows = self.order[place * self.batch : (place + 1) * self.batch]
        x, labels = _taken(self.data, rows, self.device)
        x = self.augment(x, self.generator)
        around = Circumstances(self.generator, self.step // self.epoch_steps, self.teacher)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss, logits = self.objective.lesson(self.model, x, labels, around)
        self.optimiser.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        self._average()
        right = (labels_of(logits.detach()) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(rows), right]).to(self.sums)
        self.step += 1

    def figures(self) -> Figures:
        """Figures over the images of this epoch so far, each from the network at its step.

        Raises TrainingError if a loss was not finite.
        """
        loss, right = self.sums.tolist()
        if not abs(loss) < float("inf"):
            raise TrainingError(
                f"the loss is no longer finite in epoch {-(-self.step // self.epoch_steps)} (step "
                f"{self.step:,} of {self.steps:,}); a lower rate, a warm-up or float32 may help"
            )
        seen = min(((self.step - 1) % self.epoch_steps + 1) * self.batch, len(self.data))
        return Figures(loss / seen, right / seen)

    def state(self) -> dict[str, Any]:
        """All that changes during training, for `restore`; the tensors are the session's own."""
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "host": torch.get_rng_state(),
            "device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "order": self.order,
            "sums": self.sums,
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`; any exception means that it is no state of a session like this one."""
        order, step = state["order"], int(state["step"])
        if not torch.equal(order.sort().values, torch.arange(len(self.data))) or not 0 <= step <= self.steps:
            raise ValueError("order or step of another data set")
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["host"])
        if self.device.type == "cuda" and state["device"] is not None:
            torch.cuda.set_rng_state(state["device"], self.device)
        self.order, self.step = order, step
        self.sums.copy_(state["sums"])
        for parameter, held in self.optimiser.state.items():
            shapes = {value.shape for value in held.values() if isinstance(value, Tensor) and value.dim()}
            if shapes - {parameter.shape}:
                raise ValueError("an optimiser's state of another network")

    def _average(self) -> None:
        """average <- decay*average + (1 - decay)*network, over parameters and BatchNorm's statistics."""
        if self.average is None or self.ema is None:
            return
        with torch.no_grad():
            new = self.network.state_dict()
            for key, old in self.average.state_dict().items():
                if old.is_floating_point():
                    old.lerp_(new[key], 1 - self.ema)
                else:
                    old.copy_(new[key])

    def _zeros(self) -> Tensor:
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.zeros(2, dtype=kind, device=self.device)


def evaluate(model: nn.Module, split: Split, piece: int = 256) -> Figures:
    """Figures over a split of a model, images in [0,1] -> logits, in float32 and eval mode, which is left as
    it was found."""
    device = next(model.parameters()).device
    loss = right = torch.zeros((), device=device)
    with torch.no_grad(), evaluating(model):
        for rows in torch.split(torch.arange(len(split)), piece):
            x, labels = _taken(split, rows, device)
            logits = model(x)
            loss = loss + F.cross_entropy(logits, labels, reduction="sum")
            right = right + (labels_of(logits) == labels).sum()
    return Figures(float(loss) / len(split), float(right) / len(split))


def _taken(split: Split, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = rows.to(split.index.device)
    return split.take(rows).to(device), split.labels[rows].to(device)


def _resident(split: Split, device: torch.device) -> Split:
    """The split with its images on the device, in the type they have, where they are a tensor at all."""
    if device.type == "cpu" or not isinstance(split.source, Tensor):
        return split
    index = torch.arange(len(split), device=device)
    return Split(split.source[split.index].to(device), index, split.labels.to(device))
