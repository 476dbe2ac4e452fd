"""Draws the pictures of the guide to the rule, beside this script.

    KERAS_BACKEND=jax python docs/measurements/rule.py

The kernels are drawn by Keras, so other backends draw other ones.
"""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

from keras_parewire import plot_strengths, rewire, strength_variance

FOLDER = Path(__file__).parent
# The strengths of six opposite neurons, and the weights to hand out.
STRENGTHS = np.array([2.5, 1.0, 0.4, -0.3, -1.2, -2.0])
WEIGHTS = np.array([-1.7, -0.8, -0.2, 0.3, 0.9, 1.6])
EXPONENTS = (0, 0.5, 1, 2, 4, 10, float("inf"))


def chances(exponent):
    """Returns each neuron's chance to be drawn first."""
    rates = STRENGTHS + abs(STRENGTHS.min()) + 1
    if exponent == float("inf"):
        return (rates == rates.max()).astype(float)
    return rates**exponent / (rates**exponent).sum()


def draw_strengths():
    """Draws the strengths of a kernel before and after."""
    kernel = keras.initializers.HeNormal(seed=0)((512, 256))
    figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(9, 3))
    for ax, title, values in (
        (axes[0], "before", kernel),
        (axes[1], "after", rewire(kernel, seed=0)),
    ):
        plot_strengths(values, ax=ax)
        variance = float(strength_variance(values))
        ax.set_title(f"{title}: strength variance {variance:.2f}")
    return figure


def draw_clocks():
    """Draws one ringing of the clocks, and what it hands out."""
    rates = STRENGTHS + abs(STRENGTHS.min()) + 1
    times = np.random.default_rng(8).exponential(size=len(rates)) / rates
    places = np.argsort(np.argsort(times))
    names = [f"neuron {k + 1}" for k in range(len(rates))]
    rows = np.arange(len(rates))

    figure, (left, right) = plt.subplots(
        1, 2, sharey=True, figsize=(9, 3.4), width_ratios=(1, 2.2)
    )
    left.barh(rows, rates, 0.55, color="tab:blue")
    left.set_yticks(rows, names)
    left.set(title="rates $P_k$", xlim=(0, 1.15 * rates.max()))
    left.bar_label(left.containers[0], fmt="%.1f", padding=3)
    left.invert_yaxis()

    right.hlines(rows, 0, times, color="tab:gray", linewidth=1)
    right.plot(times, rows, "o", color="tab:blue")
    for row, time, place in zip(rows, times, places, strict=True):
        right.annotate(
            f"{place + 1}. receives {WEIGHTS[place]:+.1f}",
            (time, row),
            (8, 0),
            textcoords="offset points",
            verticalalignment="center",
        )
    right.set(
        title="times $E_k / P_k$, and the weights handed out",
        xlabel="time",
        xlim=(0, 1.4 * times.max()),
    )
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_exponents():
    """Draws what the exponent does to the chances and to the variance."""
    kernel = keras.initializers.Orthogonal(seed=0)((512, 4608))
    variances = [
        float(strength_variance(rewire(kernel, exponent=exponent, seed=0)))
        for exponent in EXPONENTS
    ]
    labels = ["∞" if e == float("inf") else f"{e:g}" for e in EXPONENTS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for exponent, label, style in zip(
        (0, 1, 4, float("inf")),
        ("0 (shuffle)", "1 (the paper)", "4", "∞ (greedy)"),
        (":", "-", "--", "-."),
        strict=True,
    ):
        left.plot(
            range(1, len(STRENGTHS) + 1),
            chances(exponent),
            style,
            marker="o",
            label=label,
        )
    left.legend(title="exponent")
    left.set(
        title="chance to be drawn first",
        xlabel="neuron (strongest to weakest)",
        ylim=(-0.05, 1.05),
    )
    right.axhline(
        float(strength_variance(kernel)), color="tab:gray", linestyle="--"
    )
    right.plot(labels, variances, "o-")
    right.set(
        title="strength variance, orthogonal 512 x 4608",
        xlabel="exponent",
        yscale="log",
    )
    return figure


if __name__ == "__main__":
    for name, draw in (
        ("strengths", draw_strengths),
        ("clocks", draw_clocks),
        ("exponents", draw_exponents),
    ):
        figure = draw()
        figure.tight_layout()
        figure.savefig(FOLDER / f"rule-{name}.png", dpi=110)
        print(f"Wrote {FOLDER / f'rule-{name}.png'}")
