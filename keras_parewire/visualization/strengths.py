"""Pictures of strengths, drawn with Matplotlib."""

from typing import Any

import keras
import numpy as np

from keras_parewire.models.report import RewireReport
from keras_parewire.models.rewire import strength_report
from keras_parewire.rewiring.strengths import strengths


def plot_strengths(model_or_report_or_kernel: Any, ax: Any = None) -> Any:
    """Draws the strengths of a kernel's neurons, or strength variances.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = rewire_model(model, seed=0)
    >>> ax = plot_strengths(report)
    >>> ax.get_xlabel()
    'strength variance'

    Args:
        model_or_report_or_kernel: For a `RewireReport` the strength variances
            of all kernels, before and after; for a built model the same as it
            is; for a kernel, a tensor or array `(..., in, out)`, the histograms
            of its input and output neurons' strengths.
        ax: The Matplotlib axes to draw into. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If a model has not been built, or has no kernels.
    """
    drawn = model_or_report_or_kernel
    if isinstance(drawn, keras.layers.Layer):
        drawn = strength_report(drawn)
    if isinstance(drawn, RewireReport):
        return _plot_variances(drawn, ax)
    pair = strengths(drawn)
    if ax is None:
        ax = _new_axes((6.4, 4.8))
    bins = np.histogram_bin_edges(np.concatenate(pair), "auto")
    for values, side, color in zip(
        pair, ("input", "output"), ("tab:orange", "tab:blue"), strict=True
    ):
        ax.hist(
            values,
            bins,
            alpha=0.6,
            color=color,
            label=f"{len(values)} {side} neurons",
        )
    ax.set(xlabel="strength", ylabel="neurons")
    ax.legend()
    return ax


def _new_axes(size: tuple[float, float]) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _plot_variances(report: RewireReport, ax: Any) -> Any:
    rows = [row for row in report if row.skipped is None]
    if not rows:
        raise ValueError("There must be kernels to draw. Received: none")
    if ax is None:
        # A line of text for each kernel.
        ax = _new_axes((8.0, 1.5 + 0.18 * len(rows)))
    places = np.arange(len(rows))
    before = np.array([row.before for row in rows], float)
    after = np.array([row.after for row in rows], float)
    changed = bool((before != after).any())
    if changed:
        ax.hlines(places, before, after, color="lightgray", zorder=0)
    label = "before" if changed else None
    ax.plot(before, places, "o", ms=4, color="tab:gray", label=label)
    if changed:
        ax.plot(after, places, "o", ms=4, color="tab:blue", label="after")
        # Above, since the rows leave no room.
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    ax.set_yticks(places, [row.path for row in rows], fontsize=7)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    if min(before.min(), after.min()) > 0:
        ax.set_xscale("log")
    ax.set_xlabel("strength variance")
    ax.grid(axis="x", alpha=0.3)
    return ax
