"""Looks for what wiring depends on: the gradient that all images share.

    KERAS_BACKEND=jax python examples/cifar10/map_gradients.py --data-dir DIR

Adds a row for each network to `gradients.csv` in the folder of `--out`, leaving
out those that are there, and compares them with the rows of the map, which are
in the same folder: `MAP_PLAN.md` says how, and why.
"""

import argparse
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import keras
import numpy as np
from command_line import output_folder
from jax import numpy as jnp
from scipy import stats

from cifar10 import data, map_numbers, map_rows
from cifar10.map import Runner
from cifar10.map_cells import CELLS, FIGURE_SEEDS, SEEDS

ARMS = "scaled", "pa"
IMAGES = 128
# Those with a start of their own.
NAMES = [
    name
    for name, cell in CELLS.items()
    if cell.seeds == SEEDS and cell.epochs == 3
]
SUPPORTED = 0.6


def shared_part(network):
    """Returns a compiled function that measures what gradients share.

    Its arguments are the values of the network's trainable and other variables,
    images, and the coefficients of the logits.
    """

    def share(trainable, others, images, coefficients):
        def outputs(trainable):
            logits, _ = network.stateless_call(
                trainable, others, images, training=True
            )
            return logits @ coefficients

        gradients = jax.tree.leaves(jax.jacrev(outputs)(trainable))
        rows = [each.reshape(len(images), -1) for each in gradients]
        eigenvalues = jnp.linalg.eigvalsh(sum(x @ x.T for x in rows))
        return eigenvalues[-1] / eigenvalues.sum()

    return jax.jit(share)


def measure(name, load, path):
    """Adds the missing rows of a cell."""
    done = {(r["cell"], r["arm"], int(r["seed"])) for r in map_rows.read(path)}
    runs = [(arm, seed) for seed in FIGURE_SEEDS for arm in ARMS]
    runs = [run for run in runs if (name, *run) not in done]
    if not runs:
        return
    runner = Runner(CELLS[name], load())
    network, probe = runner.network, runner.probe[:IMAGES]
    share = shared_part(network)
    for arm, seed in runs:
        runner.start(arm, seed)
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), 10)
        values = [
            [variable.value for variable in variables]
            for variables in (
                network.trainable_variables,
                network.non_trainable_variables,
            )
        ]
        row = {"cell": name, "arm": arm, "seed": seed}
        found = share(*values, probe, jnp.asarray(signs, "float32"))
        map_rows.append(path, row | {"share": float(found)})
    keras.utils.clear_session()


def report(rows, found):
    """Returns the comparison with the map, as Markdown.

    Args:
        rows: Rows of `gradients.csv`.
        found: A dict of `map_numbers.Found` with the cells of the map.
    """
    shares = {
        (r["cell"], r["arm"], int(r["seed"])): float(r["share"]) for r in rows
    }
    lines = [
        "| cell | share in `scaled` | share in `pa` | D | wiring |",
        "| --- | --- | --- | --- | --- |",
    ]
    pairs = []
    for name in NAMES:
        if name not in found:
            continue
        scaled, pa = (
            np.array([shares[name, arm, seed] for seed in FIGURE_SEEDS])
            for arm in ARMS
        )
        apart = map_numbers.interval(np.log(scaled / pa))
        wiring = found[name].difference(map_numbers.PARTS["wiring"])
        pairs.append((apart.mean, wiring.mean))
        lines.append(
            f"| `{name}` | {scaled.mean():.2f} | {pa.mean():.2f} | {apart} | "
            f"{wiring} |"
        )
    correlation = stats.spearmanr(*np.transpose(pairs)).statistic
    verdict = "is open"
    if correlation >= SUPPORTED or correlation <= 0:
        verdict = "is supported" if correlation > 0 else "fails"
    if len(pairs) < len(NAMES):
        verdict = "is not judged yet"
    lines += [
        "",
        f"Rank correlation of D and wiring over {len(pairs)} of {len(NAMES)} "
        f"cells: {correlation:+.2f}. The idea **{verdict}**.",
    ]
    return "\n".join(lines)


def main():
    """Makes the rows that are missing, and reports them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="a folder of TensorFlow Datasets")
    parser.add_argument("--out", type=Path, default=output_folder("map"))
    arguments = parser.parse_args()
    path = arguments.out / "gradients.csv"
    load = functools.partial(functools.cache(data.load), arguments.data_dir)
    for name in NAMES:
        measure(name, load, path)
    found = map_numbers.read(arguments.out.glob("*.csv"))
    text = report(map_rows.read(path), found)
    print(text)
    path.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
