"""What two runs of one seed, and the arms, do to a model."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_parewire.studies import runs
from keras_parewire.tables import aligned, significant

SAME = """\
Training is repeatable here: two runs of seed 0 gave the same numbers and \
weights, to the last bit."""
OTHER = """\
Training is not repeatable here: two runs of seed 0 gave different numbers or \
weights. If these are about as far apart as two seeds are, the runs saw other \
data or drew other numbers: make whatever draws within `train`, from its seed. \
If they are far closer, the device adds numbers in an order that varies; \
verdicts stay valid, but take more seeds."""


@dataclasses.dataclass(frozen=True, repr=False)
class Check:
    """What `Study.check` saw; it prints itself."""

    repeatable: bool  # Whether two runs of seed 0 agreed, to the last bit.
    # How far the two runs of seed 0 are apart in a metric, and seeds 0 and 1.
    metrics: dict[str, tuple[float, float]]
    # How many matrices (weights of rank 2 or more) an arm changed, how many
    # there are, and which share of all trainable weights changed.
    arms: dict[str, tuple[int, int, float]]

    def __str__(self) -> str:
        """Returns sentences and tables in Markdown."""
        seeds = [("metric", "two runs of seed 0 differ by", "seeds 0 and 1 by")]
        seeds += [
            (name, significant(same, same), significant(other, other))
            for name, (same, other) in self.metrics.items()
        ]
        arms = [("arm", "matrices changed", "share of all weights")]
        arms += [
            (name, f"{changed} of {matrices}", f"{share:.0%}")
            for name, (changed, matrices, share) in self.arms.items()
        ]
        text = SAME if self.repeatable else OTHER
        return "\n".join([text, "", *aligned(seeds), "", *aligned(arms)]) + "\n"

    __repr__ = _repr_markdown_ = __str__


def check(
    make_model: Callable[[], Any],
    train: Callable[[Any, int], Any],
    arms: Mapping[str, runs.Arm],
) -> Check:
    """Trains the first arm with the seeds 0, 1 and 0; see `Study.check`."""
    changes: dict[str, tuple[int, int, float]] = {}
    for name, arm in arms.items():
        model = runs.new_model(make_model, 0)
        weights = model.trainable_weights  # The arm may freeze some.
        before = _values(weights)
        runs.apply_arm(arm, model, 0)
        changed = list(map(np.not_equal, before, _values(weights)))
        matrices = [array for array in changed if array.ndim > 1]
        total = sum(array.size for array in changed)
        changes[name] = (
            sum(bool(array.any()) for array in matrices),
            len(matrices),
            sum(int(array.sum()) for array in changed) / max(total, 1),
        )
    first = next(iter(arms.values()))
    names: list[str] = []
    ends = []
    for seed in (0, 1, 0):
        model = runs.new_model(make_model, seed)
        runs.apply_arm(first, model, seed)
        metrics = runs.named_metrics(train(model, seed), model)
        names = names or [*metrics]
        numbers = np.array([metrics.get(name, math.nan) for name in names])
        ends.append([numbers, *_values(model.trainable_weights)])
    one, other, again = ends
    pairs = zip(one, again, strict=True)
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    apart = np.abs([one[0] - again[0], one[0] - other[0]]).T.tolist()
    found = {name: (x, y) for name, (x, y) in zip(names, apart, strict=True)}
    return Check(same, found, changes)


def _values(weights: list[Any]) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(weight.value)) for weight in weights]
