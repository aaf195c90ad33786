"""All benchmarks, or one with its options.

python -m bench [NAME [OPTION ...]]

Without a name (`make bench`): those that need nothing but the project, and where ARENA_SHARED has CIFAR-10
those on ResNet-20, each in a process of its own.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

NAMES = (
    "attackers",
    "catalogue",
    "coverage",
    "defenders",
    "draws",
    "env",
    "forward",
    "fuzz",
    "growth",
    "guards",
    "haste",
    "isolation",
    "kills",
    "linear",
    "log",
    "lookups",
    "published",
    "rewriting",
    "square",
    "theorems",
    "threads",
    "trained",
    "workers",
)


def every() -> None:
    """Run them one after the other."""
    os.environ.setdefault("GOMP_SPINCOUNT", "100")  # as arena has it
    data = Path(os.environ.get("ARENA_SHARED", "../shared")) / "data"
    real = ["--world", "resnet20", "--data", str(data), "--data", str(data / "weights")]
    commands = [["square"], ["attackers"]]
    commands += [["env"], ["forward"], ["log"], ["rewriting"], ["draws"], ["threads"], ["guards"]]
    if (data / "cifar-10-batches-bin").is_dir():
        commands[1:1] = [["square", *real, "--games", "100", "--budget", "50"], ["attackers", *real]]
    else:
        print(f"ResNet-20 is left out: no CIFAR-10 in {data}", flush=True)
    for command in commands:
        print("$ python -m bench", *command, flush=True)
        subprocess.run([sys.executable, "-m", "bench", *command], check=True)


def main() -> None:
    if not sys.argv[1:]:
        every()
    elif sys.argv[1] in NAMES:
        name = sys.argv.pop(1)
        importlib.import_module(f"bench.{name}").main()
    else:
        sys.exit(f"there is no benchmark {sys.argv[1]!r}; there are {', '.join(NAMES)}")


if __name__ == "__main__":
    main()
