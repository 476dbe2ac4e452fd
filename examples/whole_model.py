"""Rewires a model of `keras.applications` and plots the effect.

    python examples/whole_model.py --model ResNet50

Prints the report of all kernels and the time taken, as a multiple of the time
to rewire the bare kernels one by one. Plots the strength variances of all
kernels and the strengths of the largest one. The weights are random, so nothing
is downloaded. Takes 20 to 60 seconds on two cores.
"""

import argparse
import inspect
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder
from keras import ops

from keras_parewire import (
    plot_strength_variances,
    plot_strengths,
    rewire,
    rewire_model,
)

NAMES = sorted(
    name
    for name, make in vars(keras.applications).items()
    if inspect.isfunction(make)
)


def values(variable):
    """Returns a copy of a variable's values."""
    return np.array(ops.convert_to_numpy(variable))


def draw_layer(kernel, rewired, path, figure_path):
    """Plots the strengths of one kernel before and after rewiring."""
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained", sharex=True, sharey=True
    )
    for matrix, title, ax in zip(
        (kernel, rewired), ("before", "after"), axes, strict=True
    ):
        plot_strengths(matrix, ax=ax)
        ax.set_title(title)
    figure.suptitle(f"{path} {kernel.shape}")
    figure.savefig(figure_path, dpi=120)


def seconds(function):
    """Returns the time of the fastest, least disturbed of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def print_times(model, report):
    """Prints the time to rewire the model, and its ratio to bare kernels."""
    kernels = [
        ops.copy(variable.value)
        for variable, row in zip(model.weights, report, strict=True)
        if row.skipped is None
    ]
    whole = seconds(lambda: rewire_model(model, seed=0, verbose=0))
    bare = seconds(lambda: [rewire(kernel, seed=0) for kernel in kernels])
    print(
        f"Rewired in {whole:.2f} s, {whole / bare:.2f} times as long as its "
        "bare kernels take."
    )


def main():
    """Rewires the model, prints the report and writes the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        default="ResNet50",
        choices=NAMES,
        metavar="NAME",
        help=", ".join(NAMES),
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=output_folder("whole_model")
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(arguments.seed)
    model = getattr(keras.applications, arguments.model)(weights=None)
    before = [values(variable) for variable in model.weights]
    report = rewire_model(model, seed=arguments.seed)
    print(report)

    plot_strength_variances(report).figure.savefig(
        arguments.out / "variances.png", dpi=120
    )
    # The largest of the kernels that are `(..., in, out)`.
    largest = max(
        (
            i
            for i, row in enumerate(report)
            if row.outputs == row.shape[-1] and row.groups == 1
        ),
        key=lambda i: before[i].size,
    )
    draw_layer(
        before[largest],
        values(model.weights[largest]),
        report[largest].path,
        arguments.out / "strengths.png",
    )
    print_times(model, report)
    print(f"Wrote variances.png and strengths.png to {arguments.out}")


if __name__ == "__main__":
    main()
