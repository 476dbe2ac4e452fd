"""Figures of studies."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_parewire.studies.statistics import Columns


def plot_differences(
    found: Columns,
    *,
    labels: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    unit: str = "",
) -> Any:
    """Plots each seed's difference from the first arm as a dot.

    A line shows the mean of each arm.

    Args:
        found: Values by arm, metric and seed, with the reference first.
        labels: Titles for the metrics. Defaults to their names.
        colors: The color of each arm. Defaults to Matplotlib's.
        unit: Text after the label of the axis. Defaults to nothing.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no arm has a seed in common with the first one.
    """
    from matplotlib.figure import Figure

    reference, *others = found
    metrics = list(found[reference])
    paired = {
        arm: {
            metric: sorted(set(found[arm][metric]) & set(values))
            for metric, values in found[reference].items()
        }
        for arm in others
    }
    paired = {
        arm: seeds for arm, seeds in paired.items() if any(seeds.values())
    }
    if not paired:
        raise ValueError(
            "A figure of differences needs two arms that have completed a run "
            f"of the same seed. Received: completed runs of "
            f"{[arm for arm in found if any(found[arm].values())]}"
        )
    colors = colors or {arm: f"C{i}" for i, arm in enumerate(paired)}
    # Not from `pyplot`, which would keep the figure.
    width = max(4.0, 0.7 * len(paired))
    figure = Figure(figsize=(1 + width * len(metrics), 4), layout="constrained")
    for axis, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        axis.axhline(0, color="black", linewidth=0.8)
        for place, (arm, seeds) in enumerate(paired.items()):
            values = np.array(
                [
                    found[arm][metric][seed] - found[reference][metric][seed]
                    for seed in seeds[metric]
                ]
            )
            across = place + np.linspace(-0.25, 0.25, len(values) + 2)[1:-1]
            axis.plot(across, values, ".", color=colors[arm], alpha=0.7)
            if len(values):
                axis.hlines(
                    values.mean(), place - 0.35, place + 0.35, colors[arm], lw=2
                )
        axis.set(
            title=(labels or {}).get(metric, metric),
            ylabel=f"difference from {reference}{unit}",
            xlim=(-0.6, len(paired) - 0.4),
        )
        names = [
            f"{arm.replace('+', chr(10) + '+ ')}\nn = {len(seeds[metric])}"
            for arm, seeds in paired.items()
        ]
        axis.set_xticks(range(len(names)), names, fontsize="small")
    return figure
