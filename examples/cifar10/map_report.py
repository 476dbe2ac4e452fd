"""Reports the map: in which cells which start helps, and by how much.

    python examples/cifar10/map_report.py examples/results/map/*.csv

Writes a table, which it also prints, and a figure to the folder of `--out`. The
intervals and verdicts hold whenever one looks, see `PLAN.md`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder

from cifar10 import rows
from cifar10.cells import CELLS, cell_options
from cifar10.figures import COLORS
from cifar10.summary import measured
from keras_parewire.studies import compare
from keras_parewire.studies.report import aligned

METRIC = "test_accuracy"
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


def table(found):
    """Returns the lines of the table."""
    lines = [HEADER]
    for cell, arms in found.items():
        judged = {item.arm: item for item in judge(cell, arms)}
        for arm, metrics in arms.items():
            accuracies = 100 * np.array([*metrics[METRIC].values()])
            offsets = [
                np.mean([*values.values()])
                for name, values in metrics.items()
                if name.startswith("relative_offset_")
            ]
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
            line.append(" ".join(f"{offset:.2f}" for offset in offsets))
            lines.append(line)
    return aligned(lines)


def draw(found):
    """Returns a figure of all differences, cell by cell."""
    figure, axis = plt.subplots(
        figsize=(8, 1.5 + len(found)), layout="constrained"
    )
    labels = {}
    for number, (cell, arms) in enumerate(found.items()):
        for place, item in enumerate(judge(cell, arms)):
            low, high = item.interval
            labels[item.arm] = axis.errorbar(
                item.difference,
                number + 0.15 * (place - 1.5),
                xerr=[[item.difference - low], [high - item.difference]],
                fmt="o",
                color=STYLES[item.arm],
            )
    axis.axvline(0, color="gray", linewidth=1)
    axis.set_yticks(range(len(found)), found)
    axis.invert_yaxis()
    axis.set_xlabel("difference in test accuracy from the plain start, points")
    axis.legend(labels.values(), labels, loc="best")
    return figure


def main():
    """Writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+", help="CSV files of cells")
    parser.add_argument("--out", type=Path, default=output_folder("cifar10"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = read_cells(arguments.rows)
    text = "\n".join(table(found))
    print(text)
    (arguments.out / "map.md").write_text(text + "\n")
    draw(found).savefig(arguments.out / "map.png", dpi=120)


if __name__ == "__main__":
    main()
