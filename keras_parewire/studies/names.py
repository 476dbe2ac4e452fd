"""Names of metrics that Keras numbers anew for each model of a process.

Metrics without a name of their own, such as `AUC()`, are called `auc` in the
first model and `auc_1` in the next one, which a study builds after a failed run
or in another call within a notebook.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any


def automatic_names(model: Any) -> list[str]:
    """Lists the names, without numbers, that a model's metrics got by class."""
    metrics = [
        metric
        for tracker in getattr(model, "metrics", ())
        for metric in getattr(tracker, "metrics", (tracker,))
    ]
    stems = {
        _split(metric.name)[0]: type(metric).__name__.lower()
        for metric in metrics
    }
    return [stem for stem in stems if stem.replace("_", "") == stems[stem]]


def as_before(
    metrics: Mapping[str, float],
    known: Collection[str],
    automatic: Collection[str],
) -> dict[str, float]:
    """Returns metrics by known names if only Keras' numbers differ.

    Args:
        metrics: Values by name.
        known: The names of earlier runs.
        automatic: What `automatic_names` returns.
    """
    if len(metrics) != len(known):
        return dict(metrics)
    ordered = (sorted(names, key=_split) for names in (metrics, known))
    pairs = list(zip(*ordered, strict=True))
    shifts: dict[str, int] = {}
    for new, old in pairs:
        (stem, number), (other, before) = _split(new), _split(old)
        # All numbers of one name differ by the same amount.
        shift = shifts.setdefault(stem, number - before)
        named = not shift or stem.removeprefix("val_") in automatic
        if stem != other or number - before != shift or not named:
            return dict(metrics)
    by_known = {old: metrics[new] for new, old in pairs}
    return {name: by_known[name] for name in known}


def _split(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.+)_([0-9]+)", name)
    return (found[1], int(found[2])) if found else (name, 0)
