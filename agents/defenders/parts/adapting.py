"""A network that adapts to each image that it is asked about, and forgets it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call


class RowNorm(nn.Module):
    """BatchNorm2d as it is in eval mode, whose scale and shift may be those of each row: [C] or [n,C]."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        mean = norm.running_mean
        if mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm2d without running statistics cannot be adapted to rows")
        self.eps = norm.eps
        self.weight = nn.Parameter(torch.ones_like(mean) if norm.weight is None else norm.weight.detach())
        self.bias = nn.Parameter(torch.zeros_like(mean) if norm.bias is None else norm.bias.detach())
        self.requires_grad_(False)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", norm.running_var)

    def extra_repr(self) -> str:
        return f"{len(self.running_mean)}, eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[..., None, None] + shift[..., None, None]


class Adapting(nn.Module):
    """`network`, each of whose answers is given with scales and shifts of BatchNorm of the row's own, after
    `steps` steps of Adam from those of the network that minimise the entropy of the row's softmax.

    Sums over rows keep the rows apart; weights and running statistics stay as they are. A row whose logits
    are not finite, before or after, is answered as the network does. Gradients through an answer take what
    the row was adapted to for constants.

    Args:
        network: whose layers `RowNorm` adapt.
    """

    untrainable: ClassVar[str] = "adapts itself to each query"

    def __init__(self, network: nn.Module, steps: int, lr: float) -> None:
        super().__init__()
        self.network, self.steps, self.lr = network, steps, lr

    def extra_repr(self) -> str:
        return f"steps={self.steps}, lr={self.lr}"

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            point = x.clone() if x.is_inference() else x
            plain, own = self._adapted(point)
        answer: Tensor = functional_call(self.network, own, (x,))
        sound = (plain.isfinite() & answer.isfinite()).all(dim=1, keepdim=True)
        return torch.where(sound, answer, plain)

    def _adapted(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's own logits [n,K] of `x` [n,C,H,W], and scales and shifts [n,C] by name."""
        own = {
            f"{name}.{part}": getattr(layer, part).detach().repeat(len(x), 1).requires_grad_(True)
            for name, layer in self.network.named_modules()
            if isinstance(layer, RowNorm)
            for part in ("weight", "bias")
        }
        optimiser = torch.optim.Adam(own.values(), lr=self.lr)
        plain = None
        for _ in range(self.steps):
            logits = functional_call(self.network, own, (x,))
            plain = logits if plain is None else plain
            entropy = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum()
            for tensor, gradient in zip(
                own.values(), torch.autograd.grad(entropy, [*own.values()]), strict=True
            ):
                tensor.grad = gradient
            optimiser.step()
        assert plain is not None
        return plain.detach(), {name: tensor.detach() for name, tensor in own.items()}
