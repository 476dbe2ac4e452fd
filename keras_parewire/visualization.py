"""Plots of strengths and of studies, drawn with Matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_parewire.models.strength_table import (
    StrengthReport,
    strength_report,
)
from keras_parewire.rewiring.strengths import strengths
from keras_parewire.rewiring.values import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_strength_variances", "plot_strengths"]


def plot_strengths(kernel: Tensor, *, ax: "Axes | None" = None) -> "Axes":
    """Plots histograms of the strengths of a kernel's neurons.

    Example:

    >>> kernel = keras.random.normal((64, 32), seed=0)
    >>> ax = plot_strengths(kernel)
    >>> ax.get_xlabel()
    'strength'

    Args:
        kernel: Tensor or array `(..., in, out)`.
        ax: The Matplotlib axes to plot into. Defaults to a new figure's.

    Returns:
        The axes.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `kernel` is not a tensor or an array of real numbers, or
            `ax` is not Matplotlib axes.
        ValueError: If the rank is below 2, or a weight NaN, infinite or traced.
    """
    pair = strengths(kernel)
    both = np.concatenate(pair)
    if not np.isfinite(both).all():
        raise ValueError(
            "The weights of a kernel must be finite to be plotted. Received: "
            f"kernel of shape {np.shape(kernel)} with NaN or infinite weights"
        )
    axes = _axes(ax, (6.4, 4.8))
    bins = np.histogram_bin_edges(both, "auto").tolist()
    for values, side, color in zip(
        pair, ("input", "output"), ("tab:orange", "tab:blue"), strict=True
    ):
        axes.hist(
            values,
            bins,
            alpha=0.6,
            color=color,
            edgecolor=color,  # Also shows a bar that is thinner than a pixel.
            label=f"{len(values)} {side} neurons",
        )
    axes.set(xlabel="strength", ylabel="number of neurons")
    axes.margins(y=0.35)  # Room for the legend.
    axes.legend(loc="upper right")
    return axes


def plot_strength_variances(
    model_or_report: "keras.layers.Layer | StrengthReport",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plots the strength variance of every kernel of a model.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = rewire_model(model, seed=0)
    >>> ax = plot_strength_variances(report)
    >>> ax.get_xlabel()
    'strength variance'

    Args:
        model_or_report: A `StrengthReport`, to plot its variances before and
            after rewiring, or a built model or layer, to plot its current ones.
        ax: The Matplotlib axes to plot into. Defaults to a new figure's.

    Returns:
        The axes.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `model_or_report` is neither a model nor a report, or `ax`
            is not Matplotlib axes.
        ValueError: If the model is not built, or has no kernels or NaN weights.
    """
    report = model_or_report
    if isinstance(report, keras.layers.Layer):
        report = strength_report(report)
    if not isinstance(report, StrengthReport):
        raise TypeError(
            "`model_or_report` must be a Keras model or a `StrengthReport`. "
            f"Received: model_or_report={model_or_report!r}"
        )
    rows = [row for row in report if row.skipped is None]
    if not rows:
        raise ValueError(
            "`model_or_report` must have kernels to plot. "
            f"Received: {len(report)} weights, none of them a kernel"
        )
    before = np.array([row.before for row in rows], float)
    after = np.array([row.after for row in rows], float)
    # A line of text for each kernel.
    axes = _axes(ax, (8.0, 1.5 + 0.18 * len(rows)))
    positions = np.arange(len(rows))
    changed = bool((before != after).any())
    if changed:
        axes.hlines(positions, before, after, color="lightgray", zorder=0)
    label = "before" if changed else None
    axes.plot(before, positions, "o", ms=4, color="tab:gray", label=label)
    if changed:
        axes.plot(after, positions, "o", ms=4, color="tab:blue", label="after")
        # Above the plot, because the rows fill all of it.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    axes.set_yticks(positions, [row.path for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if min(before.min(), after.min()) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("strength variance")
    axes.grid(axis="x", alpha=0.3)
    return axes


def plot_comparisons(
    comparisons: Sequence[Any],
    samples: Sequence[np.ndarray],
    margin: float | None = None,
) -> Any:
    """Plots comparisons and their differences by seed; see `Study.plot`."""
    from matplotlib.figure import Figure

    if not comparisons:
        raise ValueError(
            "A figure of differences needs two arms that have completed a run "
            "of the same seed. Received: 0 comparisons"
        )
    # Not from `pyplot`, which would keep the figure.
    figure: Any = Figure((5, 2 + 0.5 * len(comparisons)), layout="constrained")
    axes = figure.subplots()
    if margin is not None:
        axes.axvspan(-margin, margin, color="0.9")
    pairs = zip(comparisons, samples, strict=True)
    for place, (item, differences) in enumerate(pairs):
        color = f"C{place}"
        heights = place + np.linspace(0.15, 0.45, item.n)
        axes.plot(differences, heights, ".", color=color, alpha=0.4)
        # Without an interval, there is only the mean.
        half = item.interval[1] - item.difference
        half = half if np.isfinite(half) else 0.0
        style: Any = {"color": color, "fmt": "o", "markersize": 4}
        axes.errorbar([item.difference], [place], xerr=half, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.locator_params(axis="x", nbins=6)  # Long labels would touch.
    _, reference, metric, *_ = comparisons[0]
    axes.set_xlabel(f"{metric}, difference from {reference}")
    axes.set_ylim(len(comparisons) - 0.4, -0.6)
    arms = [item.arm for item in comparisons]
    axes.set_yticks(range(len(arms)), arms, fontsize="small")
    return figure


def _axes(ax: Any, size: tuple[float, float]) -> "Axes":
    """Returns `ax`, or the axes of a new figure of `size` inches."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ModuleNotFoundError as error:
        raise ImportError(
            "Plots need Matplotlib. Install it with "
            "`pip install keras_parewire[plot]`."
        ) from error
    if ax is None:
        return plt.figure(figsize=size, layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise TypeError(
            f"`ax` must be a Matplotlib `Axes`. Received: ax={ax!r}"
        )
    return ax
