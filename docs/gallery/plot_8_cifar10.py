"""
CIFAR-10: differences within a seed
===================================

Long trainings are not run when this site is built. These are the committed
rows of the CIFAR-10 study: 20 seeds an arm, three epochs, base `orthogonal`.
Each dot is the difference between an arm and the plain start for one seed; the
bar is a 95 % bootstrap interval of their mean.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

root = next(
    folder
    for folder in (Path.cwd(), *Path.cwd().parents)
    if (folder / "pyproject.toml").exists()
)
ARMS = ("pa", "shuffled", "greedy")
FILES = {
    "small CNN": "cifar10-small_cnn-ca56ea8d.csv",
    "MLP": "cifar10-mlp-c941c0b6.csv",
}


def read(name):
    """Returns the test accuracies in % by arm and seed."""
    [path] = (root / "examples").rglob(name)
    accuracies = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            accuracies.setdefault(row["arm"], {})[int(row["seed"])] = (
                100 * float(row["test_accuracy"])
            )
    return accuracies


rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 2, sharey=True, figsize=(9, 4))
for ax, (model, name) in zip(axes, FILES.items(), strict=True):
    accuracies = read(name)
    for place, arm in enumerate(ARMS):
        paired = np.array(
            [
                accuracies[arm][seed] - accuracies["base"][seed]
                for seed in sorted(accuracies["base"])
            ]
        )
        chosen = rng.integers(len(paired), size=(5000, len(paired)))
        low, high = np.percentile(paired[chosen].mean(1), (2.5, 97.5))
        mean = paired.mean()
        ax.plot(
            place + rng.uniform(-0.15, 0.15, len(paired)),
            paired,
            ".",
            color="tab:gray",
        )
        ax.errorbar(
            place,
            mean,
            [[mean - low], [high - mean]],
            fmt="o",
            capsize=5,
            color="tab:blue",
        )
        print(f"{model}, {arm}: {mean:+.2f} points [{low:+.2f}, {high:+.2f}]")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(title=model, xticks=range(len(ARMS)), xticklabels=ARMS)
axes[0].set_ylabel("test accuracy minus plain (points)")
figure.tight_layout()
