"""Reports the map: how much of each gain is scale, and how much is wiring?

    python examples/cifar10/map_report.py examples/results/map/*.csv

Writes tables and sentences, which it also prints, and a figure to the folder of
`--out`. What they mean is in `MAP_PLAN.md`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder

from cifar10.map_cells import CELLS, PREDICTED
from cifar10.map_numbers import (
    CENTERED,
    PARTS,
    SIGNALS,
    apart_at_the_best,
    apart_at_the_same_scale,
    came_true,
    criterion,
    curve_verdict,
    curves,
    interval,
    read,
)

NAMES = {"base": "plain", "pa": "rewired"}
CRITERIA = {
    "he_normal's gain is scale": ("he_normal", "scale", "wiring"),
    "glorot_uniform's gain is wiring": ("glorot_uniform", "wiring", "scale"),
}
CURVES = ("he_normal", "glorot_uniform")


def table(found, parts, columns=()):
    """Returns the lines of a table of differences, one for each cell.

    Args:
        found: A dict of `Found`.
        parts: The differences by name.
        columns: More columns: pairs of a name and a function of a `Found`.
    """
    head = ["cell", "seeds", "plain, %", *parts, *(name for name, _ in columns)]
    arms = {arm for pair in parts.values() for arm in pair}
    lines = [head, ["---"] * len(head)]
    for name, cell in found.items():
        if not arms <= {*cell.cell.arms}:
            continue
        line = [
            f"`{name}`",
            f"{len(cell.seeds)} of {cell.planned}",
            f"{cell.points('base').mean():.2f}",
            *(str(cell.difference(part)) for part in parts.values()),
            *(function(cell) for _, function in columns),
        ]
        lines.append(line)
    return [f"| {' | '.join(line)} |" for line in lines]


def first_square(arm):
    """Returns a column: the first mean square, of `base` and of an arm."""

    def text(cell):
        plain, changed = (
            cell.values(name, "mean_square_1") for name in ("base", arm)
        )
        ratio = np.mean(changed / plain)
        return f"{plain.mean():.2f}, {changed.mean():.2f} ({ratio:.2f} times)"

    return "first mean square", text


def predicted(cell):
    """Says which predictions of scale and wiring came true."""
    words = {True: "yes", False: "no", None: "open"}
    if cell.name not in PREDICTED or not cell.complete:
        return ""
    parts = PARTS["scale"], PARTS["wiring"]
    return ", ".join(
        f"{sign} {words[came_true(sign, cell.difference(part))]}"
        for sign, part in zip(PREDICTED[cell.name], parts, strict=True)
    )


def criteria(found):
    """Returns a sentence on each criterion."""
    for text, (name, main, other) in CRITERIA.items():
        cell = found.get(name)
        seeds = f"{len(cell.seeds)} of {cell.planned}" if cell else "no"
        verdict = criterion(cell, main, other) if cell else None
        if verdict:
            yield f'- "{text}": **{verdict}**.'
        else:
            yield f'- "{text}": not judged yet; `{name}` has {seeds} seeds.'


def curve_sentences(found):
    """Returns a sentence on each pair of curves."""
    for base in CURVES:
        both = curves(found, base)
        if both is None:
            yield f"- `{base}`: no seeds yet."
            continue
        plain, rewired, seeds = both
        apart = apart_at_the_same_scale(plain, rewired)
        of = f"{len(seeds)} of {found[f'{base}-first'].planned}"
        yield (
            f"- `{base}`, {of} seeds: rewired minus plain at the same scale "
            f"{apart} ({curve_verdict(apart)}), at the best scale of each "
            f"{apart_at_the_best(plain, rewired)}."
        )


def missing(found):
    """Returns a sentence on what has not been run."""
    absent = [f"`{name}`" for name in CELLS if name not in found]
    partial = [
        f"`{name}` ({len(cell.seeds)} of {cell.planned} seeds)"
        for name, cell in found.items()
        if not cell.complete
    ]
    complete = sum(name in CELLS and c.complete for name, c in found.items())
    text = f"Complete: {complete} of {len(CELLS)} cells."
    if partial:
        text += f" Incomplete: {', '.join(partial)}."
    if absent:
        text += f" Not run: {', '.join(absent)}."
    return text


def report(found):
    """Returns the report as Markdown."""
    columns = [
        first_square("pa"),
        ("predicted scale, wiring", predicted),
    ]
    lines = [
        missing(found),
        "",
        *table(found, PARTS, columns),
        "",
        *criteria(found),
        "",
        "The first kernel times 1/8 to 4:",
        "",
        *curve_sentences(found),
        "",
        # The guide on results shows what is above.
        "<!-- more -->",
        "",
        "Centering in place of rewiring:",
        "",
        *table(found, CENTERED, [first_square("centered")]),
        "",
        "The scale's part, by signals and by weights:",
        "",
        *table(found, SIGNALS),
    ]
    return "\n".join(lines)


def draw(found):
    """Returns the figure: accuracy over the first layer's mean square."""
    figure, axes = plt.subplots(
        1, 2, figsize=(8, 3.6), sharey=True, layout="constrained"
    )
    for axis, base in zip(axes, CURVES, strict=True):
        axis.set_xlabel("mean square of the first layer's outputs")
        both = curves(found, base)
        if both is None:
            axis.set(title=f"{base}, no seeds yet", xticks=[])
            continue
        for curve, arm, color in zip(
            both, NAMES, ("gray", "tab:blue"), strict=False
        ):
            means = [interval(points) for points in curve.points.T]
            middle = np.array([item.mean for item in means])
            high = np.array([item.high for item in means])
            axis.errorbar(
                np.exp(np.log(curve.squares).mean(axis=0)),
                middle,
                yerr=np.nan_to_num(high - middle, posinf=0),
                fmt="o-",
                color=color,
                capsize=2,
                label=NAMES[arm],
            )
        axis.set_xscale("log", base=2)
        axis.set_title(f"{base}, {len(both[2])} seeds")
        axis.legend()
    axes[0].set_ylabel("test accuracy, %")
    return figure


def main():
    """Writes the report and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+", help="CSV files of cells")
    parser.add_argument("--out", type=Path, default=output_folder("map"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = read(arguments.rows)
    text = report(found)
    print(text)
    (arguments.out / "map.md").write_text(text + "\n")
    draw(found).savefig(arguments.out / "map.png", dpi=120)


if __name__ == "__main__":
    main()
