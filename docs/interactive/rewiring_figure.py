"""Makes the interactive figure: a kernel's rewiring, neuron by neuron.

    python docs/interactive/rewiring_figure.py output/rewiring.html

The page holds all its runs, computed here by the package's own `rewire`, and
needs neither a server nor the network. Without JavaScript it shows the first
run's kernel before and after.
"""

import argparse
import html
import json
from pathlib import Path

import numpy as np

from keras_parewire import rewire, strength_variance

INPUTS, OUTPUTS = 8, 6
EXPONENTS = ("0", "0.5", "1", "2", "4", "inf")
SEEDS = range(5)
TEMPLATE = Path(__file__).with_name("template.html")


def make_kernel():
    """Returns a random kernel whose weights all differ."""
    # Two decimals, as the page shows them, and each number once.
    drawn = np.random.default_rng(16).normal(0, 1, 100).round(2)
    weights = list(dict.fromkeys(drawn))[: INPUTS * OUTPUTS]
    return np.array(weights, "float32").reshape(INPUTS, OUTPUTS)


def after_first_pass(kernel, rewired):
    """Returns the kernel between the two passes.

    The first pass keeps each weight in its column, the second in its row: so
    each row of the result has one weight of each column of the kernel.
    """
    column_of = {value: column for (_, column), value in np.ndenumerate(kernel)}
    halfway = np.empty_like(kernel)
    for (row, _), value in np.ndenumerate(rewired):
        halfway[row, column_of[value]] = value
    return halfway


def compute_runs(kernel):
    """Returns the kernels after each pass, by exponent and seed."""
    runs = {}
    for exponent in EXPONENTS:
        for seed in SEEDS:
            rewired = np.asarray(
                rewire(kernel, exponent=float(exponent), seed=seed)
            )
            halfway = after_first_pass(kernel, rewired)
            runs[f"{exponent}/{seed}"] = [_table(halfway), _table(rewired)]
    return runs


def picture(kernel, title):
    """Returns a kernel with the strengths of its neurons as an HTML table."""
    rows = [
        [*row, total]
        for row, total in zip(kernel, kernel.sum(axis=1), strict=True)
    ]
    rows.append([*kernel.sum(axis=0), None])
    body = "".join(
        "<tr>"
        + "".join(
            "<td></td>"
            if value is None
            else f"<td{_style(value, i, j)}>{value:.2f}</td>"
            for j, value in enumerate(row)
        )
        + "</tr>"
        for i, row in enumerate(rows)
    )
    variance = f"strength variance {float(strength_variance(kernel)):.2f}"
    return (
        f"<table><caption>{html.escape(title)}: {variance}</caption>"
        f"{body}</table>"
    )


def _style(value, row, column):
    if row == INPUTS or column == OUTPUTS:
        return ' class="strength"'
    share = min(1, abs(value) / 2.5)
    color = "225,87,60" if value > 0 else "52,120,190"
    return f' style="background:rgba({color},{share:.2f})"'


def _table(kernel):
    return [[round(float(value), 2) for value in row] for row in kernel]


def write(path):
    """Writes the page."""
    kernel = make_kernel()
    data = {
        "kernel": _table(kernel),
        "exponents": EXPONENTS,
        "seeds": list(SEEDS),
        "runs": compute_runs(kernel),
    }
    rewired = np.array(data["runs"]["1/0"][1], "float32")
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("@DATA@", json.dumps(data, separators=(",", ":")))
    page = page.replace(
        "@PICTURE@",
        picture(kernel, "Before") + picture(rewired, "After"),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    write(parser.parse_args().path)
