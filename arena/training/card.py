"""The metadata of trained weights, kept in their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from arena.classifiers.building import packages_of
from arena.classifiers.devices import device_in_words
from arena.classifiers.networks import Normalised
from arena.datasets import Dataset
from arena.provenance import versions
from arena.statistics import wilson
from arena.training.errors import TrainingError
from arena.training.files import write_whole
from arena.training.job import TrainingJob
from arena.training.loop import Trained
from arena.training.session import evaluate


def measure(trained: Trained, data: Dataset) -> dict[str, dict[str, float]]:
    """For each split: `images`, `accuracy`, and the ends `low` and `high` of its 95 % Wilson interval."""
    device = next(trained.network.parameters()).device
    model = Normalised(trained.network, trained.mean, trained.std).to(device)
    found = {}
    for name, split in data.splits.items():
        accuracy = evaluate(model, split).accuracy
        low, high = wilson(round(accuracy * len(split)), len(split))
        rates = {"accuracy": accuracy, "low": low, "high": high}
        found[name] = {"images": len(split), **{key: round(rate, 4) for key, rate in rates.items()}}
    return found


def card(
    job: TrainingJob, recipe_name: str, trained: Trained, accuracy: Mapping[str, Mapping[str, float]]
) -> dict[str, str]:
    """The metadata of a weights file: what the network is, how it was trained and how accurate it is.

    `norm_mean` and `norm_std` are numbers separated by commas, one for all channels or one each; `params`,
    `splits`, `recipe`, `accuracy` (the result of `measure`), `versions` and `code` (if the network is a
    user's) are JSON.
    """
    code = job.identity.get("code")
    threads = f", {torch.get_num_threads()} threads" if job.device.type == "cpu" else ""
    return {
        "norm_mean": ",".join(map(repr, trained.mean)),
        "norm_std": ",".join(map(repr, trained.std)),
        "network": job.network,
        "params": json.dumps(job.whole_params),
        "dataset": job.data.name,
        "dataset_sha": job.data.sha,
        "splits": json.dumps({name: len(split) for name, split in job.data.splits.items()}),
        "recipe_name": recipe_name,
        "recipe": json.dumps(job.recipe.model_dump(mode="json")),
        "seed": str(job.seed),
        "epochs": str(trained.epochs),
        "steps": str(trained.steps),
        "accuracy": json.dumps(accuracy),
        "versions": json.dumps(versions(*packages_of([job.network]))),
        "device": device_in_words(job.device) + threads,
        **({"code": json.dumps(code)} if code else {}),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_weights(path: Path, network: nn.Module, facts: Mapping[str, str]) -> None:
    """Write the network's state dict with this metadata, as a whole or not at all; raises OSError."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    write_whole(path, save(tensors, dict(facts)))


def is_of(path: Path, job: TrainingJob) -> bool:
    """Whether a file holds the weights of exactly this job, by its metadata.

    Raises TrainingError if there is a file with other content.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        theirs = {key: metadata.get(key) for key in job.identity}
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path} exists and is no weights file: {error}; name another --out") from error
    ours = {k: v if isinstance(v, str) else json.dumps(v) for k, v in job.identity.items()}
    return theirs == ours
