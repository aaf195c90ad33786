"""The kinds of benign clients, by name."""

from __future__ import annotations

from arena.evaluation.benign.cameras import Augmentation, Video
from arena.evaluation.benign.client import Client, Repeats, Single
from arena.evaluation.benign.explanations import Lime, Occlusion, Shap
from arena.evaluation.benign.optimisers import Ascent, RandomSearch

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Single(),
        Repeats(),
        Video(),
        Augmentation(),
        Occlusion(),
        Lime(),
        Shap(),
        RandomSearch(),
        Ascent(),
    )
}
