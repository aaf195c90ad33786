from __future__ import annotations

import torch

from arena.classifiers.networks.digits import DigitsNet


def test_digits_net_has_its_size() -> None:
    net = DigitsNet()
    convolutions = (1 * 32 + 32 * 32 + 32 * 64) * 9 + 32 + 32 + 64
    assert sum(p.numel() for p in net.parameters()) == convolutions + 256 * 48 + 48 + 48 * 10 + 10 == 40_890
    assert net(torch.rand(3, 1, 8, 8)).shape == (3, 10)
