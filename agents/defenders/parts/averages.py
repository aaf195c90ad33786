"""One answer made of several to the same row."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from agents.defenders.parts.pieces import in_pieces
from arena.players import Inner, Response, Rows


def mean_probabilities(scores: Tensor) -> Tensor:
    """Logits [n,m,K] of m answers -> [n,K] the log of their mean softmax, ln((1/m) sum_j softmax(z_j)).

    A row of whose logits one is not finite gets its first answer.
    """
    mean = scores.log_softmax(dim=2).logsumexp(dim=1) - math.log(scores.shape[1])
    return torch.where(scores.isfinite().all(dim=2).all(dim=1, keepdim=True), mean, scores[:, 0])


def averaged(x: Tensor, rows: Rows, inner: Inner, times: int) -> Response:
    """What `inner` answers to images `x` [n,C,H,W], asked `times` times with draws of their own: the log of
    the mean probabilities; a flag is set where one of the answers has it."""
    if times == 1:
        return inner(x, rows)
    return in_pieces(x, rows, inner, times, partial(_averaged, times=times))


def _averaged(x: Tensor, rows: Rows, inner: Inner, times: int) -> Response:
    answers = inner(x.repeat_interleave(times, dim=0), rows.repeat(times))
    each = len(x), times
    flags = {
        name: flag.view(each).any(dim=1)
        for name in Response.FLAGS
        if (flag := answers.given(name)) is not None
    }
    return Response(mean_probabilities(answers.scores.view(*each, answers.scores.shape[1])), **flags)
