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
    """Plots values and what `compare` returns of them; see `Study.plot`."""
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
    metrics = list(dict.fromkeys(item.metric for item in paired))
    others = [name for name in metrics if name != metric]
    height = 1.5 + max(1.5, 0.5 * len(arms), 0.2 * len(others))
    # Not from `pyplot`, which would keep the figure.
    figure: Any = Figure((5 + 5 * bool(others), height), layout="constrained")
    axes = figure.subplots(1, 1 + bool(others), squeeze=False)[0]
    if margin is not None:
        axes[0].axvspan(-margin, margin, color="0.9")
    named: set[str] = set()
    for item in paired:
        place = arms.index(item.arm)
        style = {"color": f"C{place}", "fmt": "o", "markersize": 4}
        differences = paired_differences(
            values[item.arm], values[reference], item.metric
        )
        # Without an interval, there is only the mean.
        half = item.interval[1] - item.difference
        half = half if np.isfinite(half) else 0.0
        if item.metric == metric:
            heights = place + np.linspace(0.15, 0.45, item.n)
            axes[0].plot(
                differences, heights, ".", color=f"C{place}", alpha=0.4
            )
            axes[0].errorbar([item.difference], [place], xerr=half, **style)
            continue
        # Each metric in its own unit: the spread of its differences.
        unit = differences.std(ddof=1) if item.n > 1 else 0
        row = others.index(item.metric) - 0.3 + 0.6 * (place + 0.5) / len(arms)
        if unit:
            label = None if item.arm in named else item.arm
            named.add(item.arm)
            center, half = item.difference / unit, half / unit
            axes[1].errorbar([center], [row], xerr=half, label=label, **style)
    labels = f"{metric}, difference from {reference}", "standard deviations"
    for axis, names, label in zip(axes, (arms, others), labels, strict=False):
        axis.axvline(0, color="black", linewidth=0.8)
        axis.locator_params(axis="x", nbins=6)  # Long labels would touch.
        axis.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axis.set_yticks(range(len(names)), names, fontsize="small")
    if others:
        axes[1].set_title("exploratory", fontsize="medium")
        if len(arms) > 1:
            handles = axes[1].get_legend_handles_labels()
            figure.legend(*handles, loc="outside right")
    return figure
