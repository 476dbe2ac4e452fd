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

    items = [item for item in found if item.n and item.verdict is not None]
    if not items:
        raise ValueError(
            "A figure of differences needs two arms that have completed a run "
            f"of the same seed. Received: completed runs of "
            f"{[arm for arm in values if any(values[arm].values())]}"
        )
    reference, metric = items[0].reference, items[0].metric
    # Not from `pyplot`, which would keep the figure.
    figure: Any = Figure((5, 2 + 0.5 * len(items)), layout="constrained")
    axes = figure.subplots()
    if margin is not None:
        axes.axvspan(-margin, margin, color="0.9")
    for place, item in enumerate(items):
        differences = paired_differences(
            values[item.arm], values[reference], metric
        )
        heights = place + np.linspace(0.15, 0.45, item.n)
        color = f"C{place}"
        axes.plot(differences, heights, ".", color=color, alpha=0.4)
        # Without an interval, there is only the mean.
        half = item.interval[1] - item.difference
        axes.errorbar(
            [item.difference],
            [place],
            xerr=half if np.isfinite(half) else 0.0,
            color=color,
            fmt="o",
            markersize=4,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.locator_params(axis="x", nbins=6)  # Long labels would touch.
    axes.set_xlabel(f"{metric}, difference from {reference}")
    axes.set_ylim(len(items) - 0.4, -0.6)
    names = [item.arm for item in items]
    axes.set_yticks(range(len(items)), names, fontsize="small")
    return figure
