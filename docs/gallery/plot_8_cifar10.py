"""
CIFAR-10: differences within a seed
===================================

Long trainings are not run when this site is built. These are the committed
rows of the CIFAR-10 study: 50 seeds an arm of the small CNN and 20 of the MLP,
three epochs, base `orthogonal`. The arm `centered`, whose strengths are all 0,
has not been run on the MLP.

Each dot is the difference between an arm and the plain start for one seed. The
bar is the 95 % paired t interval of their mean, from the committed report.
"""

import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

root = next(
    folder
    for folder in (Path.cwd(), *Path.cwd().parents)
    if (folder / "pyproject.toml").exists()
)
results = root / "examples" / "results"
report = json.loads((results / "cifar10-report.json").read_text())
ARMS = ("pa", "shuffled", "greedy", "centered")
FILES = {
    "small CNN": "cifar10-small_cnn-7be279d2",
    "MLP": "cifar10-mlp-c941c0b6",
}


def read_differences(name):
    """Returns the differences in test accuracy from plain, by arm."""
    accuracies = {}
    with (results / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            accuracies.setdefault(row["arm"], {})[int(row["seed"])] = (
                100 * float(row["test_accuracy"])
            )
    plain = accuracies["base"]
    return {
        arm: np.array([accuracies[arm][seed] - plain[seed] for seed in plain])
        for arm in ARMS
        if arm in accuracies
    }


def read_intervals(name):
    """Returns the mean differences and their intervals, by arm."""
    config = json.loads((results / f"{name}.json").read_text())
    [study] = [study for study in report if study["config"] == config]
    return {
        line["arm"]: (line["difference"], *line["interval"])
        for line in study["comparisons"]
        if (line["reference"], line["metric"]) == ("base", "test_accuracy")
    }


rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 2, sharey=True, figsize=(9, 4))
for ax, (model, name) in zip(axes, FILES.items(), strict=True):
    differences, intervals = read_differences(name), read_intervals(name)
    for place, (arm, dots) in enumerate(differences.items()):
        mean, low, high = intervals[arm]
        ax.plot(
            place + rng.uniform(-0.15, 0.15, len(dots)),
            dots,
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
    ax.set(title=model, xticks=range(len(differences)), xticklabels=differences)
axes[0].set_ylabel("test accuracy minus plain (points)")
figure.tight_layout()
