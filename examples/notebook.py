"""Ten cells of a notebook, on scikit-learn's digits: play, print, tabulate, draw, save, report.

Editors that know `# %%` run it cell by cell; `python examples/notebook.py` runs it whole. It
needs pandas (`pip install "blackbox-arena[tables]"`) and writes into the folder `runs`.
"""

# %% 1. A classifier and images: any torch module that takes images in [0,1], and tensors or arrays
from pathlib import Path

import arena
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import load_dataset

GAMES, BUDGET, RUNS = 100, 200, Path("runs")
digits = load_dataset("digits")
world = {
    "classifier": load_classifier(ClassifierSpec(network="digits-cnn"), digits),  # or your own module
    "images": digits.games.images[:GAMES],
    "labels": digits.games.labels[:GAMES],
    "threat": {"norm": "linf", "epsilon": 0.15, "budget": BUDGET, "objective": "submit"},
    "at": [BUDGET // 8, BUDGET // 4, BUDGET // 2],
}

# %% 2. One match: the last line of a cell shows its table
result = arena.play("square", {"name": "snd", "sigma": 0.05}, **world)
result  # noqa: B018

# %% 3. Its numbers, by the headline verdict or another one, with 95 % intervals
for verdict in (result.headline, "answered"):
    left, low, high = result.accuracy_interval(verdict)
    print(f"{verdict}: {left:.1%} [{low:.1%}, {high:.1%}] of the images are still classified right")

# %% 4. A table with a row for each game
games = result.to_dataframe("games")
games.groupby("reason")[["queries", "vote"]].mean()

# %% 5. Its curve: the vote at the reported counts, and the lucky answers as a thin line
result.plot()

# %% 6. Several attackers against several defenders, on the same games, kept in a log
results = arena.play_all(
    attackers=["square", {"name": "eot", "repeats": 5, "of": "square"}],
    defenders={"none": "none", "snd": {"name": "snd", "sigma": 0.05}, "both": ["snd", "rnd"]},
    **world,
    log=RUNS / "notebook.db",
)
results  # noqa: B018

# %% 7. One of them, and all of them in one table
print(results["square", "snd"])
results.to_dataframe()[["attacker", "defender", "verdict", "accuracy", "accuracy_answered", "queries_mean"]]

# %% 8. A chart for each defender
axes = results.plot()
axes[0].figure.savefig(RUNS / "notebook.png")

# %% 9. Save all of it, and read it back
path = results.save(RUNS / "notebook.npz")
again = arena.Results.load(path)
print(again)

# %% 10. The page of `arena report`: tables, charts and pictures in one HTML file
print(results.report(RUNS / "notebook.html"))
