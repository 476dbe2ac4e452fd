"""The figures of the CIFAR-10 study, from its rows."""

import matplotlib.pyplot as plt
import numpy as np

from cifar10.summary import METRICS, UNPAIRED, compare_paired, percentages
from cifar10.trainer import CURVES

COLORS = {
    "base": "tab:gray",
    "pa": "tab:blue",
    "shuffled": "tab:orange",
    "greedy": "tab:red",
    "centered": "tab:pink",
    "pa_centered": "mediumvioletred",
    "pa_first": "lightskyblue",
    "pa_last": "cornflowerblue",
    "pa_others": "navy",
    "stabilized": "tab:green",
    "pa_stabilized": "tab:cyan",
    "sinusoidal": "tab:brown",
    "pa_sinusoidal": "goldenrod",
    "lowest": "tab:olive",
    "highest": "tab:purple",
}
# Below this, the strengths of a kernel differ only by rounding.
LEAST_VARIANCE = 1e-6


def draw(config, found, stem):
    """Draws the figures of a study to `<stem>-<figure>.png`.

    Args:
        config: The study's configuration.
        found: All numbers by arm, metric and seed.
        stem: What the paths of the figures begin with.
    """
    found = {arm: found[arm] for arm in COLORS if arm in found}
    for name, function in (
        ("curves", draw_curves),
        ("differences", draw_differences),
        ("effects", draw_effects),
        ("strengths", draw_strengths),
    ):
        figure = function(found)
        if figure is None:
            continue
        figure.suptitle(
            f"{config['model']}, base {config['base']}, "
            f"epochs: {config['epochs']}, {config['backend']}"
        )
        figure.savefig(f"{stem}-{name}.png", dpi=120)
        plt.close(figure)


def draw_curves(found):
    """Learning curves: means, and bands of one standard deviation."""
    if not any("epoch_2_loss" in metrics for metrics in found.values()):
        return None  # One epoch is no curve.
    labels = {
        "loss": ("training loss", 1),
        "accuracy": ("training accuracy in %", 100),
        "val_accuracy": ("validation accuracy in %", 100),
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, curve in zip(axes, CURVES, strict=True):
        label, scale = labels[curve]
        for arm, metrics in found.items():
            curves = []
            while values := metrics.get(f"epoch_{len(curves) + 1}_{curve}"):
                curves.append([*values.values()])
            curves = np.transpose(curves) * scale
            epochs = np.arange(1, curves.shape[1] + 1)
            mean, spread = curves.mean(axis=0), curves.std(axis=0)
            style = {"marker": "o", "markersize": 3} if len(epochs) < 20 else {}
            axis.plot(
                epochs,
                mean,
                color=COLORS[arm],
                label=f"{arm} (n = {len(curves)})",
                **style,
            )
            axis.fill_between(
                epochs,
                mean - spread,
                mean + spread,
                color=COLORS[arm],
                alpha=0.15,
                linewidth=0,
            )
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(title="mean ± 1 sd over seeds", fontsize="small")
    return figure


def draw_differences(found):
    """Each seed's difference from the base, as a dot; the mean as a line."""
    found = _paired(found)
    if not found:
        return None
    base, arms = found["base"], list(found)[1:]
    # A figure looks the same however many arms a study has.
    width = 1 + max(4.0, 0.7 * len(arms)) * len(METRICS)
    figure, axes = plt.subplots(
        1, len(METRICS), figsize=(width, 4), layout="constrained"
    )
    for axis, (metric, label) in zip(axes, METRICS.items(), strict=True):
        axis.axhline(0, color="black", linewidth=0.8)
        names = []
        for place, arm in enumerate(arms):
            values = found[arm][metric]
            differences = [
                values[s] - base[metric][s] for s in _common(found, arm)
            ]
            across = (
                place + np.linspace(-0.25, 0.25, len(differences) + 2)[1:-1]
            )
            axis.plot(across, differences, ".", color=COLORS[arm], alpha=0.7)
            line = place - 0.35, place + 0.35
            axis.hlines(np.mean(differences), *line, COLORS[arm], lw=2)
            name = arm.replace("_", "\n")
            names.append(f"{name}\nn = {len(differences)}")
        axis.set(
            title=label,
            ylabel="difference from base in points",
            xlim=(-0.6, len(arms) - 0.4),
        )
        axis.set_xticks(range(len(names)), names, fontsize="small")
    return figure


def draw_effects(found):
    """Each arm's mean difference from the base against its strength variance.

    Bars are paired t intervals of 95 %.
    """
    paired = _paired(found)
    if not paired:
        return None
    figure, axes = plt.subplots(
        1, len(METRICS), figsize=(13, 4), layout="constrained"
    )
    by_metric = dict(zip(METRICS, axes, strict=True))
    label = "mean strength variance"
    variances = {
        arm: np.mean([*found[arm]["strength_variance"].values()])
        for arm in paired
    }
    if min(variances.values()) < LEAST_VARIANCE:
        label += f" (at least {LEAST_VARIANCE:g})"
    comparisons = [
        item
        for arm in list(paired)[1:]
        for item in compare_paired(paired, arm, "base")
    ]
    for item in comparisons:
        arm = item["arm"]
        low, high = item["interval"] or [item["difference"]] * 2
        by_metric[item["metric"]].errorbar(
            max(variances[arm], LEAST_VARIANCE),
            item["difference"],
            [[item["difference"] - low], [high - item["difference"]]],
            fmt="o",
            color=COLORS[arm],
            label=arm,
        )
    for metric, axis in by_metric.items():
        axis.axhline(0, color="black", linewidth=0.8)
        axis.plot(variances["base"], 0, "o", color=COLORS["base"], label="base")
        axis.margins(x=0.1)
        axis.set(
            xscale="log",
            xlabel=label,
            ylabel="difference from base in points",
            title=METRICS[metric],
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right")
    return figure


def draw_strengths(found):
    """Strength variance and kurtosis at initialization against accuracy."""
    measures = {
        "strength_variance": "mean strength variance at initialization",
        "strength_kurtosis": "mean excess kurtosis of strengths",
    }
    metrics = ("epoch_1_val_accuracy", "test_accuracy")
    figure, axes = plt.subplots(
        2, 2, figsize=(11, 8), layout="constrained", sharey="row"
    )
    for line, metric in zip(axes, metrics, strict=True):
        for axis, (measure, label) in zip(line, measures.items(), strict=True):
            for arm, metrics in found.items():
                if measure == "strength_kurtosis" and (
                    max(metrics["strength_variance"].values()) < LEAST_VARIANCE
                ):
                    continue
                axis.plot(
                    [*metrics[measure].values()],
                    [100 * value for value in metrics[metric].values()],
                    ".",
                    color=COLORS[arm],
                    alpha=0.7,
                    label=arm,
                )
            axis.set(xlabel=label, ylabel=f"{METRICS[metric]} in %")
            if measure == "strength_variance":
                # Rewiring lowers it by orders of magnitude.
                axis.set_xscale("log")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside right upper"
    )
    return figure


def _paired(found):
    """The accuracies of the base and of the arms that share seeds with it."""
    arms = [arm for arm in found if arm not in ("base", *UNPAIRED)]
    arms = [arm for arm in arms if "base" in found and _common(found, arm)]
    return percentages({arm: found[arm] for arm in ("base", *arms) if arms})


def _common(found, arm):
    """The seeds that an arm shares with the base."""
    accuracies = (found[name]["test_accuracy"] for name in (arm, "base"))
    return sorted(set.intersection(*map(set, accuracies)))
