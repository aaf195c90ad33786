"""AAA's optimisation of logits (Chen et al., NeurIPS 2022, eq. 6): Adam, row by row.

Logits are kept as columns [K,n], one for each row of the batch, minus that of the class c and in units of ln
2, so that probabilities are powers of two.

An answer must not depend on its batch: no operation may give a column other bits if it has another place or
other neighbours. Torch's softmax, sum and topk can do that. Maxima, sums in a fixed order and elementwise
arithmetic cannot; nor can exp2 on whole vectors, so the columns are padded to a multiple of 32. These
operations also run small tensors in one thread. Torch's exp, sqrt and max along a dimension do not: they
would wake all threads hundreds of times a call, and wait for the last one while other processes use the
cores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_LANES = 32  # two of the widest vectors: torch unrolls its loops once
_PIECE = 1 << 14  # below 2^15 numbers, from which on torch splits a loop among its threads
_CELLS = {"cpu": 1 << 18}  # logits at a time: seven tensors of them fit into the third-level cache
_CELLS_ELSEWHERE = 1 << 24
_LOWEST, _APART = -1e30, 3e38  # no logit minus _APART is above a logit that is at least _LOWEST

_Fold = tuple[Tensor, Tensor, Tensor]  # two summands and their sum


def descend(
    logits: Tensor, top: Tensor, margin: Tensor, confidence: Tensor, *, beta: float, steps: int, lr: float
) -> Tensor:
    """Logits [n,K] after Adam (0.9, 0.999, 1e-8) on |m(z) - t| + beta |p_c(z) - p*| from `logits`.

    m(z) is the margin between the two largest logits at that step. A batch's loss is the sum over its rows.

    Args:
        logits: [n,K], finite.
        top: c [n], the largest logit.
        margin: t [n].
        confidence: p* [n].
    """
    result = torch.empty_like(logits)
    width = max(_LANES, _CELLS.get(logits.device.type, _CELLS_ELSEWHERE) // logits.shape[1])
    for cut in range(0, len(logits), width):
        piece = slice(cut, cut + width)
        descent = LogitDescent(logits[piece], top[piece], margin[piece], confidence[piece], beta)
        for _ in range(steps):
            descent.step(lr)
        result[piece] = logits[piece] + descent.change()
    return result


def top_probability(logits: Tensor, top: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) [n] of the largest logits `top` [n] of the rows of [n,K]."""
    columns = _columns(logits, top).div_(temperature)
    powers = _below(columns)
    _exp2(_pieces(columns, powers[: len(columns)]))
    return _total(_folds(powers)).reciprocal()[0, : len(logits)]


class LogitDescent:
    """Adam on |m(z) - t| + beta |p_c(z) - p*|, summed over the rows of `logits` [n,K].

    Args:
        logits: [n,K], finite.
        top, margin, confidence: c, t and p* [n].
    """

    def __init__(self, logits: Tensor, top: Tensor, margin: Tensor, confidence: Tensor, beta: float) -> None:
        self.steps, self._rows, self._beta = 0, len(logits), beta
        self._start = _columns(logits, top)
        self._z = self._start.clone()
        classes, n = self._z.shape
        self._top, self._margin, self._confidence = (
            pad(t, (0, n - len(t)))[None] for t in (top, margin / math.log(2), confidence)
        )
        self._rank = torch.arange(classes, 0, -1, dtype=logits.dtype, device=logits.device)[:, None]
        powers = _below(torch.zeros_like(self._z))
        self._folds, self._scratch = _folds(powers), powers[:classes]
        self._powers = _pieces(self._z, self._scratch)
        self._mean, self._square = torch.zeros_like(self._z), torch.zeros_like(self._z)
        self._gradient, self._first = torch.empty_like(self._z), torch.empty_like(self._z)
        self._value, self._other, self._tied = logits.new_empty(3, 1, n)

    def change(self) -> Tensor:
        """By how much the logits [n,K] have changed."""
        return (self._z - self._start)[:, : self._rows].mul_(math.log(2)).t()

    def step(self, lr: float) -> None:
        """One step of Adam."""
        self._calibrate()
        self._separate()
        self.steps += 1
        decay = _BETA2**self.steps
        self._mean.lerp_(self._gradient, 1 - _BETA1)
        # The mean square is kept divided by beta2^step, which saves a multiplication by beta2 in each step.
        self._square.addcmul_(self._gradient, self._gradient, value=(1 - _BETA2) / decay)
        scale = math.sqrt((1 - decay) / decay)
        root = torch.rsqrt(self._square, out=self._scratch).reciprocal_().add_(_EPSILON * scale)
        rate = lr / math.log(2) * scale / (1 - _BETA1**self.steps)
        self._z.addcdiv_(self._mean, root, value=-rate)

    def gradient(self) -> Tensor:
        """The gradient [n,K] with respect to the logits at this step.

        g = sgn(m - t) (e_i1 - e_i2) + beta sgn(p_c - p*) p_c (e_c - p), with sgn(0) = 0; i1 and i2 are the
        largest and the second largest logit, ties to the lowest index.
        """
        self._calibrate()
        self._separate()
        return self._gradient[:, : self._rows].t().clone()

    def _calibrate(self) -> None:
        """Set the gradient to that of beta |p_c - p*|."""
        _exp2(self._powers)
        total, weight, scale = _total(self._folds), self._value, self._other
        torch.gather(self._scratch, 0, self._top, out=scale).div_(total)
        torch.sub(scale, self._confidence, out=weight).sign_().mul_(self._beta).mul_(scale)
        torch.div(weight, total, out=scale).neg_()
        torch.mul(self._scratch, scale, out=self._gradient).scatter_add_(0, self._top, weight)

    def _separate(self) -> None:
        """Add the gradient of |m - t|."""
        first, second, largest, next_largest = self._first, self._scratch, self._value, self._other
        self._find(self._z, largest, first)
        torch.addcmul(self._z, first, first, value=-_APART, out=second)
        self._find(second, next_largest, second)
        sign = largest.sub_(next_largest).sub_(self._margin).sign_()
        self._gradient.addcmul_(first.sub_(second), sign)

    def _find(self, z: Tensor, largest: Tensor, where: Tensor) -> None:
        """The `largest` [1,n] of `z` [K,n], and a mask `where` [K,n]: 1 at its first place, 0 elsewhere."""
        torch.amax(z, 0, keepdim=True, out=largest)
        torch.eq(z, largest, out=where).mul_(self._rank)
        where.eq_(torch.amax(where, 0, keepdim=True, out=self._tied))


def _columns(logits: Tensor, top: Tensor) -> Tensor:
    """Logits [n,K] as columns: a new tensor [K,m], contiguous, n rounded up to m with columns of zeros."""
    shifted = (logits - logits.gather(1, top[:, None])).div_(math.log(2)).clamp_min_(_LOWEST)
    return pad(shifted.t(), (0, -len(logits) % _LANES)).contiguous()


def _below(columns: Tensor) -> Tensor:
    """[K,n] with rows of zeros below, as many rows as the next power of two."""
    return pad(columns, (0, 0, 0, (1 << (len(columns) - 1).bit_length()) - len(columns)))


def _folds(powers: Tensor) -> list[_Fold]:
    """The additions, of one half of the rows to the other, that reduce 2^k rows [2^k,n] to their sum."""
    half = len(powers) // 2
    sums = torch.empty_like(powers[:half])
    folds = [(powers[:half], powers[half:], sums)]
    while half > 1:
        half //= 2
        folds.append((sums[:half], sums[half : 2 * half], sums[:half]))
    return folds


def _total(folds: list[_Fold]) -> Tensor:
    """Carry out the additions: the sum [1,n]."""
    for one, other, total in folds:
        torch.add(one, other, out=total)
    return folds[-1][2]


def _pieces(source: Tensor, out: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two contiguous tensors of one shape, in pieces that one thread processes."""
    return list(zip(torch.split(source.view(-1), _PIECE), torch.split(out.view(-1), _PIECE), strict=True))


def _exp2(pieces: list[tuple[Tensor, Tensor]]) -> None:
    for exponent, power in pieces:
        torch.exp2(exponent, out=power)
