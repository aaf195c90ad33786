"""All benchmarks; each runs in a process of its own. `make bench`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as arena has it
    data = Path(os.environ.get("ARENA_SHARED", "../shared")) / "data"
    commands = [["bench.match", "--threads", "1"], ["bench.match"]]
    commands += [["bench.forward", "--threads", "1"], ["bench.log"], ["bench.rewriting"], ["bench.draws"]]
    if (data / "cifar-10-batches-bin").is_dir():
        real = f"bench.match --world resnet20 --games 100 --budget 50 --data {data} --data {data / 'weights'}"
        commands.insert(2, real.split())
    else:
        print(f"ResNet-20 is left out: no CIFAR-10 in {data}", flush=True)
    for command in commands:
        print("$ python -m", *command, flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
