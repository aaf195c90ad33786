"""A game as a picture: the clean image, what was sent, the difference, the answer, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from arena.rules.geometry import distances, quantise
from arena.rules.losses import margin
from arena.rules.outcome import Reason
from arena.rules.threat import TOLERANCE, Threat

Frame = NDArray[np.uint8]

_PANEL = 160
"""The least width of an image, in pixels; smaller images are enlarged by a whole factor."""
_GAP = 8
_LINE = 16
_SIDE = 16
"""Sides are multiples of this, as video codecs want them."""
_BARS = 10
_INK, _PAPER, _PALE, _WARN = (20, 20, 20), (255, 255, 255), (170, 190, 215), (190, 40, 30)


def frame(observation: Mapping[str, Any], sent: NDArray[Any], threat: Threat, reason: Reason | None) -> Frame:
    """A picture [h,w,3] uint8 of one game; its size depends on the image's and the number of classes alone.

    The difference is grey 128 plus 127 times itself over the largest change of a pixel, and its title says
    how many times it is enlarged. Nothing is shown that the attacker was not told.

    Args:
        observation: of one game (`arena.envs.spaces.observation_space`), as arrays.
        sent: [C,H,W] what was sent last; the clean image where nothing was.
        reason: why the game ended, None while it goes on.
    """
    clean = observation["image"]
    delta = sent - clean
    peak = float(abs(delta).max())
    scale = 127 / 255 / peak if peak > 0 else 1.0
    titles = [f"clean: {int(observation['label'])}", "sent", f"difference x {scale:.3g}"]
    if peak == 0:
        titles[2] = "difference: none"
    panels = [_panel(part) for part in (clean, sent, 128 / 255 + delta * scale)]
    side, tall = panels[0].width, panels[0].height
    texts = _texts(observation, sent, threat, reason)
    classes = min(_BARS, len(observation["answer_scores"]))
    below = _LINE * max(_LINES, classes if threat.feedback != "label" else 0)
    size = (4 * _GAP + 3 * side, 3 * _GAP + _LINE + tall + below)
    picture = Image.new("RGB", (_whole(size[0]), _whole(size[1])), _PAPER)
    draw = ImageDraw.Draw(picture)
    for i, (title, panel) in enumerate(zip(titles, panels, strict=True)):
        left = _GAP + i * (side + _GAP)
        draw.text((left, _GAP // 2), title, _INK, _font())
        picture.paste(panel, (left, _GAP + _LINE))
    top = 2 * _GAP + _LINE + tall
    for i, (text, ink) in enumerate(texts):
        draw.text((_GAP, top + i * _LINE), text, ink, _font())
    if observation["has_scores"]:
        _bars(draw, observation, threat, (2 * _GAP + 3 * side // 2, top, size[0] - _GAP), classes)
    return np.asarray(picture)


_LINES = 6


def _texts(
    observation: Mapping[str, Any], sent: NDArray[Any], threat: Threat, reason: Reason | None
) -> list[tuple[str, tuple[int, int, int]]]:
    """The `_LINES` lines under the images, and their colours."""
    left = round(float(observation["left"][0]))
    goal = f"target: {int(observation['target'])}" if observation["has_target"] else "any other label wins"
    x, x0 = torch.from_numpy(sent)[None], torch.from_numpy(observation["image"])[None]
    l2, linf = distances(quantise(x, threat.quantisation), x0)
    away = float(l2 if threat.norm == "l2" else linf)
    outside = away > threat.epsilon + TOLERANCE
    best = (
        f"best hit at {float(observation['best_distance'][0]):.4g}"
        if observation["has_best"]
        else "no hit yet"
    )
    return [
        (goal, _INK),
        (f"query {threat.budget - left} of {threat.budget}, {left} left", _INK),
        _answer(observation, threat),
        (
            f"{threat.norm} {away:.4g} of {threat.epsilon:.4g}" + (": outside the ball" if outside else ""),
            _WARN if outside else _INK,
        ),
        (best, _INK),
        ("" if reason is None else f"ended: {reason}", _INK),
    ]


def _answer(observation: Mapping[str, Any], threat: Threat) -> tuple[str, tuple[int, int, int]]:
    if observation["refused"]:
        return "refused", _WARN
    if not observation["answered"]:
        return "nothing was asked yet", _INK
    if not observation["has_label"]:
        return "answered: declined", _WARN
    text = f"answered: {int(observation['answer_label'])}"
    if observation["has_scores"] and threat.top_k is None:
        goal = int(observation["target"] if observation["has_target"] else observation["label"])
        scores = torch.from_numpy(np.array(observation["answer_scores"]))[None]
        m = float(margin(scores, torch.tensor([goal])))
        text += f", margin {-m if observation['has_target'] else m:.3g} (below 0 wins)"
    return text, _INK


def _bars(
    draw: ImageDraw.ImageDraw,
    observation: Mapping[str, Any],
    threat: Threat,
    place: tuple[int, int, int],
    count: int,
) -> None:
    """The highest scores, highest first, at `place`: left, top, right."""
    scores = np.asarray(observation["answer_scores"])
    left, top, right = place
    low = min(0.0, float(scores.min())) if threat.feedback == "logits" else 0.0
    high = float(scores.max()) if threat.feedback == "logits" else 1.0
    for line, k in enumerate(np.argsort(-scores, kind="stable")[:count].tolist()):
        share = (float(scores[k]) - low) / max(high - low, 1e-12)
        y = top + line * _LINE
        draw.rectangle((left, y + 2, left + round(share * (right - left)), y + _LINE - 2), _PALE)
        draw.text((left + 2, y), f"{k}: {float(scores[k]):.3g}", _INK, _font())


def _panel(image: NDArray[Any]) -> Image.Image:
    """An image [C,H,W], at least `_PANEL` pixels wide; two or more than three channels as their mean."""
    pixels = image if len(image) in (1, 3) else image.mean(0, keepdims=True)
    levels = np.broadcast_to(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8), (3, *pixels.shape[1:]))
    factor = max(1, -(-_PANEL // levels.shape[2]))
    return Image.fromarray(
        np.ascontiguousarray(levels.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1))
    )


def _font() -> Any:
    return ImageFont.load_default(12)


def _whole(side: int) -> int:
    return -(-side // _SIDE) * _SIDE
