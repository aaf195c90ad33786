from __future__ import annotations

import re

from typer.testing import CliRunner

from arena.classifiers.networks import NETWORKS
from arena.cli.app import app
from arena.training import RECIPES


def test_every_network_and_recipe_is_listed() -> None:
    result = CliRunner().invoke(app, ["networks"], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"resnet20\s+3x32x32\s+269,722\s+classes=10\s+cifar-resnet", result.output)
    assert all(re.search(rf"^ +{re.escape(name)} ", result.output, re.M) for name in (*NETWORKS, *RECIPES))
