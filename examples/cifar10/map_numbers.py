"""The numbers of the map: differences, criteria and curves, as planned."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from cifar10 import map_rows
from cifar10.map_cells import CELLS, FACTORS, LARGE_CELLS

# The parts of a difference: the arms that are subtracted.
PARTS = {
    "gain": ("pa", "base"),
    "scale": ("scaled", "base"),
    "wiring": ("pa", "scaled"),
    "wiring at the plain scale": ("pa_up", "base"),
}
CENTERED = {
    "gain": ("centered", "base"),
    "scale": ("centered_scaled", "base"),
    "wiring": ("centered", "centered_scaled"),
}
SIGNALS = {"signals": ("signals", "base"), "weights": ("scaled", "signals")}
# Two curves are one if they are less far apart, in points.
ONE_CURVE = 0.5


class Interval(NamedTuple):
    """A mean over seeds, with a paired t interval of 95 %."""

    mean: float
    low: float
    high: float

    def __str__(self):
        if np.isinf(self.high):
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def interval(values):
    """Returns the interval of the mean of several values."""
    values = np.asarray(values)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Interval(mean, mean - half, mean + half)


class Found:
    """The rows of a cell: those of the seeds that all of its arms have."""

    def __init__(self, name, rows):
        self.name = name
        self.cell = (CELLS | LARGE_CELLS)[name]
        self.planned = len(self.cell.seeds)
        made = {(row["arm"], int(row["seed"])): row for row in rows}
        self.seeds = [
            seed
            for seed in self.cell.seeds
            if all((arm, seed) in made for arm in self.cell.arms)
        ]
        self.rows = made
        # After one epoch, training is what the published table has.
        large = name in LARGE_CELLS
        self.metric = "epoch_1_accuracy" if large else "test_accuracy"

    @property
    def complete(self):
        """Whether it has all of its seeds."""
        return len(self.seeds) == self.planned

    def values(self, arm, metric, seeds=None):
        """Returns a number of each seed."""
        seeds = self.seeds if seeds is None else seeds
        return np.array([float(self.rows[arm, seed][metric]) for seed in seeds])

    def points(self, arm, seeds=None):
        """Returns the accuracy of each seed, in percent."""
        return 100 * self.values(arm, self.metric, seeds)

    def difference(self, part):
        """Returns the interval of a difference of two arms, in points."""
        arm, other = part
        return interval(self.points(arm) - self.points(other))


def read(paths):
    """Returns the cells that have seeds, in the order of the plan."""
    rows = {path.stem: map_rows.read(path) for path in paths}
    found = {
        name: Found(name, rows[name])
        for name in CELLS | LARGE_CELLS
        if name in rows
    }
    return {name: cell for name, cell in found.items() if cell.seeds}


def criterion(found, main, other):
    """Judges whether one part of a cell's gain is what it gains by.

    Args:
        found: A `Found`.
        main: `"scale"` or `"wiring"`, the part that is said to be the gain.
        other: The other part.

    Returns:
        `"stands"`, `"falls"`, `"open"`, or None without all planned seeds.
    """
    if not found.complete:
        return None
    gain, main, other = (
        found.difference(PARTS[name]) for name in ("gain", main, other)
    )
    if gain.low <= 0:
        return "open"
    if main.low > 0 and other.high < gain.mean / 2:
        return "stands"
    if other.low > 0 and other.mean > main.mean:
        return "falls"
    return "open"


def came_true(predicted, found):
    """Returns whether a predicted sign came true; None if it is open."""
    if predicted == "0":
        return found.low <= 0 <= found.high
    low, high = (found.low, found.high)
    if predicted == "-":
        low, high = -high, -low
    return True if low > 0 else False if high < 0 else None


class Curve(NamedTuple):
    """Accuracy over the first layer's mean square, seeds by factors."""

    squares: np.ndarray
    points: np.ndarray


def curves(found, base):
    """Returns the curves of the plain and the rewired start, and the seeds.

    Returns None if no seed has all points.
    """
    first = found.get(f"{base}-first")
    plain = found.get(base)
    if first is None or plain is None:
        return None
    seeds = [seed for seed in first.seeds if seed in plain.seeds]
    if not seeds:
        return None
    made = {}
    for arm in ("base", "pa"):
        factors = sorted([*FACTORS, 1])
        cells = [
            (plain, arm) if factor == 1 else (first, f"{arm}*{factor:g}")
            for factor in factors
        ]
        made[arm] = Curve(
            np.stack(
                [c.values(a, "mean_square_1", seeds) for c, a in cells], axis=1
            ),
            np.stack([c.points(a, seeds) for c, a in cells], axis=1),
        )
    return made["base"], made["pa"], seeds


def apart_at_the_same_scale(plain, rewired):
    """Returns rewired minus interpolated plain, where both are known."""
    apart = []
    for x, y, at, value in zip(*plain, *rewired, strict=True):
        x, at = np.log2(x), np.log2(at)
        inside = (at >= x.min()) & (at <= x.max())
        apart.append(np.mean((value - np.interp(at, x, y))[inside]))
    return interval(apart)


def apart_at_the_best(plain, rewired):
    """Returns rewired minus plain, each at its best factor on average."""
    best = [
        curve.points[:, curve.points.mean(axis=0).argmax()]
        for curve in (plain, rewired)
    ]
    return interval(best[1] - best[0])


def curve_verdict(apart):
    """Says whether two curves are one."""
    close = -ONE_CURVE <= apart.low and apart.high <= ONE_CURVE
    differ = apart.low > 0 or apart.high < 0
    return {
        (True, False): "one curve",
        (False, True): "two curves",
        (True, True): f"two curves, less than {ONE_CURVE} points apart",
        (False, False): "undecided",
    }[close, differ]
