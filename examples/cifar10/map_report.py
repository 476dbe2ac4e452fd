"""Reports the map: in which cells which start helps, and by how much.

    python examples/cifar10/map_report.py examples/results/map/*.csv

Writes a table and a sentence on the criterion, which it also prints, and two
figures to the folder of `--out`: where which start helps, and whether it gains
more where it removes larger offsets. The intervals and verdicts hold whenever
one looks, see `PLAN.md`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder
from scipy import stats

from cifar10 import rows
from cifar10.cells import CELLS, cell_options
from cifar10.figures import COLORS
from cifar10.summary import measured
from keras_parewire.studies import compare
from keras_parewire.studies.report import aligned

METRIC = "test_accuracy"
# By the plan, a cell without a verdict is complete with so many seeds, and the
# criterion takes so many cells.
MOST_SEEDS, LEAST_CELLS = 60, 8
HEADER = ["cell", "weights", "n", "test accuracy", "difference", "verdict"]
HEADER += ["offsets before training"]
STYLES = {**COLORS, "outputs": "tab:purple", "inputs": "tab:olive"}


def read_cells(paths):
    """Returns the numbers by cell, arm, metric and seed, as planned."""
    found = {}
    for section in map(rows.read, paths):
        arms = measured(section.rows)
        order = cell_options(section.config["cell"])["arms"]
        found[section.config["cell"]] = {arm: arms[arm] for arm in order}
    return {cell: found[cell] for cell in CELLS if cell in found}


def judge(cell, arms):
    """Returns a `Comparison` for each arm, in points of test accuracy."""
    points = {
        arm: {METRIC: {s: 100 * x for s, x in metrics[METRIC].items()}}
        for arm, metrics in arms.items()
    }
    return compare(points, margin=cell_options(cell)["margin"])


def offsets(metrics):
    """Returns the mean relative offset of each layer before training."""
    return [
        np.mean([*values.values()])
        for name, values in metrics.items()
        if name.startswith("relative_offset_")
    ]


def removed_offset(arms, arm):
    """Returns the mean over the layers, `base` minus an arm."""
    return np.mean(offsets(arms["base"])) - np.mean(offsets(arms[arm]))


def is_complete(judged):
    """Returns whether every arm of a cell has a verdict or all seeds."""
    return all(
        item.verdict != "undecided" or item.n >= MOST_SEEDS for item in judged
    )


def criterion(found):
    """Returns a sentence on the part of the criterion that is a correlation."""
    judged = {cell: judge(cell, arms) for cell, arms in found.items()}
    complete = [cell for cell in found if is_complete(judged[cell])]
    text = f"{len(complete)} of {len(CELLS)} cells are complete"
    if len(complete) < LEAST_CELLS:
        return f"{text}; the criterion takes at least {LEAST_CELLS}."
    pairs = [
        (item.difference, removed_offset(found[cell], item.arm))
        for cell in complete
        for item in judged[cell]
        if item.arm == "outputs"
    ]
    rank = stats.spearmanr(pairs).statistic
    return (
        f"{text}. In these, the rank correlation (Spearman) between the gain "
        f"of `outputs` and the offset that it removes is {rank:+.2f}."
    )


def table(found):
    """Returns the lines of the table."""
    lines = [HEADER]
    for cell, arms in found.items():
        judged = {item.arm: item for item in judge(cell, arms)}
        for arm, metrics in arms.items():
            accuracies = 100 * np.array([*metrics[METRIC].values()])
            line = [cell, arm, len(accuracies)]
            line.append(
                f"{accuracies.mean():.2f} ± {accuracies.std(ddof=1):.2f}"
            )
            if arm in judged:
                item = judged[arm]
                low, high = item.interval
                line.append(f"{item.difference:+.2f} [{low:+.2f}, {high:+.2f}]")
                line.append(item.verdict)
            else:
                line += ["", ""]
            line.append(" ".join(f"{x:.2f}" for x in offsets(metrics)))
            lines.append(line)
    return aligned(lines)


def draw(found):
    """Returns a figure of all differences, cell by cell."""
    figure, axis = plt.subplots(
        figsize=(8, 1.5 + len(found)), layout="constrained"
    )
    labels = {}
    for number, (cell, arms) in enumerate(found.items()):
        judged = judge(cell, arms)
        for place, item in enumerate(judged):
            low, high = item.interval
            labels[item.arm] = axis.errorbar(
                item.difference,
                number + 0.14 * (place - (len(judged) - 1) / 2),
                xerr=[[item.difference - low], [high - item.difference]],
                fmt="o",
                color=STYLES[item.arm],
            )
    axis.axvline(0, color="gray", linewidth=1)
    axis.set_yticks(range(len(found)), found)
    axis.invert_yaxis()
    axis.set_xlabel("difference in test accuracy from the plain start, points")
    figure.legend(labels.values(), labels, loc="outside upper right", ncols=4)
    return figure


def draw_offsets(found):
    """Returns a figure of all differences against the offsets removed."""
    figure, axis = plt.subplots(figsize=(8, 6), layout="constrained")
    labels, cells = {}, []
    for cell, arms in found.items():
        judged = judge(cell, arms)
        filled = "full" if is_complete(judged) else "none"
        for item in judged:
            low, high = item.interval
            removed = removed_offset(arms, item.arm)
            labels[item.arm] = axis.errorbar(
                removed,
                item.difference,
                yerr=[[item.difference - low], [high - item.difference]],
                fmt="o",
                fillstyle=filled,
                elinewidth=0.5,
                color=STYLES[item.arm],
            )
            if item.arm == "outputs":
                cells.append((item.difference, removed, f" {cell}"))
    heights = []
    for difference, removed, name in sorted(cells):
        height = difference
        # Names are about as wide as one unit, and must not overlap.
        while any(abs(removed - x) < 1 and height < y for x, y in heights):
            height += 0.01
        heights.append((removed, height + 0.12))
        axis.text(removed, height, name, fontsize="small")
    axis.axhline(0, color="gray", linewidth=1)
    axis.set_xlabel(
        "relative offset removed, mean over the layers (open: incomplete cells)"
    )
    axis.set_ylabel("difference in test accuracy, points")
    axis.margins(x=0.15)
    figure.legend(labels.values(), labels, loc="outside upper right", ncols=4)
    return figure


def main():
    """Writes the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+", help="CSV files of cells")
    parser.add_argument("--out", type=Path, default=output_folder("cifar10"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = read_cells(arguments.rows)
    text = "\n".join([*table(found), "", criterion(found)])
    print(text)
    (arguments.out / "map.md").write_text(text + "\n")
    draw(found).savefig(arguments.out / "map.png", dpi=120)
    draw_offsets(found).savefig(arguments.out / "map-offsets.png", dpi=120)


if __name__ == "__main__":
    main()
