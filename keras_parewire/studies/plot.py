"""The figure of a study."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_parewire.studies.statistics import (
    Comparison,
    Values,
    paired_differences,
)


def plot(
    values: Values, found: Sequence[Comparison], margin: float | None = None
) -> Any:
    """Plots comparisons with their intervals; see `Study.plot`.

    Args:
        values: Values by arm, metric and seed.
        found: What `compare` returns for them.
        margin: As in `compare`, shaded.
    """
    from matplotlib.figure import Figure

    paired = [item for item in found if item.n]
    if not paired:
        raise ValueError(
            "A figure of differences needs two arms that have completed a run "
            f"of the same seed. Received: completed runs of "
            f"{[arm for arm in values if any(values[arm].values())]}"
        )
    reference, metric = found[0].reference, found[0].metric
    arms = list(dict.fromkeys(item.arm for item in paired))
    others = [item for item in paired if item.metric != metric]
    metrics = list(dict.fromkeys(item.metric for item in others))
    height = 1.5 + max(1.5, 0.5 * len(arms), 0.2 * len(metrics))
    width = 5 + 5 * bool(metrics)
    # Not from `pyplot`, which would keep the figure.
    figure: Any = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, 1 + bool(metrics), squeeze=False)[0]
    if margin is not None:
        axes[0].axvspan(-margin, margin, color="0.9")
    for place, arm in enumerate(arms):
        style = {"color": f"C{place}", "label": arm}
        items = [item for item in paired if item.arm == arm]
        samples = [
            paired_differences(values[arm], values[reference], item.metric)
            for item in items
        ]
        if items[0].metric == metric:
            axes[0].plot(
                samples[0],
                place + np.linspace(0.15, 0.45, items[0].n),
                ".",
                color=f"C{place}",
                alpha=0.4,
            )
            _draw(axes[0], items[:1], [place], [1.0], **style)
            items, samples = items[1:], samples[1:]
        # Each metric in its own unit: the spread of its differences.
        units = [
            values.std(ddof=1) if len(values) > 1 else 0 for values in samples
        ]
        shift = 0.6 * (place + 0.5) / len(arms) - 0.3
        rows = [metrics.index(item.metric) + shift for item in items]
        if items:
            _draw(axes[1], items, rows, units, **style)
    labels = f"{metric}, difference from {reference}", "standard deviations"
    for axis, names, label in zip(axes, (arms, metrics), labels, strict=False):
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axis.set_yticks(range(len(names)), names, fontsize="small")
    if metrics:
        axes[1].set_title("exploratory", fontsize="medium")
        if len(arms) > 1:
            figure.legend(
                *axes[1].get_legend_handles_labels(), loc="outside right"
            )
    return figure


def _draw(
    axis: Any,
    items: Sequence[Comparison],
    rows: Sequence[float],
    units: Sequence[float],
    **style: Any,
) -> None:
    """Draws differences with their intervals, each in its unit."""
    drawn = [
        (
            item.difference / unit,
            row,
            (item.interval[1] - item.difference) / unit,
        )
        for item, row, unit in zip(items, rows, units, strict=True)
        if unit
    ]
    centers, places, widths = np.array(drawn).reshape(-1, 3).T
    # Without an interval, there is only the mean.
    widths = np.where(np.isfinite(widths), widths, 0.0)
    axis.errorbar(centers, places, xerr=widths, fmt="o", markersize=4, **style)
