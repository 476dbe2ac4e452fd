"""From outcomes of runs to rows: which are written, and which end the call."""

import datetime
import traceback
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from keras_parewire.studies.rows import COLUMNS, Row, Rows
from keras_parewire.studies.runs import Outcome, Runs


class Recorder:
    """Writes the rows of one study.

    Args:
        rows: The rows.
        metric: The metric that verdicts are about; None for the first.
    """

    def __init__(self, rows: Rows, metric: str | None) -> None:
        self._rows, self._metric = rows, metric
        self._names: list[str] = []
        self._starts: dict[int, dict[str, str]] = {}
        self.identity: dict[str, Any] | None = None

    def record(
        self, made: Iterable[tuple[int, Runs]]
    ) -> Iterator[dict[str, Any]]:
        """Writes the runs of each seed as they come, and yields the rows.

        Raises what the first run of an arm raised outside of training. Until
        some run of the study has ended by itself, exceptions are held back, and
        if all runs of a seed raise one, it is raised: nothing works yet.
        """
        tried = {arm for arm, _ in self._rows.runs()}
        for seed, runs in made:
            held: list[tuple[str, Outcome]] = []
            for arm, outcome in runs:
                error = outcome.exception
                if error and not outcome.training and arm not in tried:
                    raise error
                if outcome.start:
                    self._compare_starts(seed, outcome.start)
                held.append((arm, outcome))
                if tried or error is None:
                    # First the one that has the names of the metrics.
                    for one, ended in reversed(held):
                        yield self.write(one, seed, ended)
                        tried.add(one)
                    held = []
                    if error:  # Its traceback holds the model.
                        traceback.clear_frames(error.__traceback__)
            for _, outcome in held:
                raise outcome.exception or AssertionError

    def write(self, arm: str, seed: int, outcome: Outcome) -> dict[str, Any]:
        """Writes one row, and returns the one that counts."""
        if outcome.identity not in (None, self.identity):
            self._rows.begin(outcome.identity or {})
            self.identity = outcome.identity
        if outcome.metrics is not None:
            self._check_names([*outcome.metrics])
        now = datetime.datetime.now(datetime.UTC)
        row = {
            "arm": arm,
            "seed": seed,
            "metrics": outcome.metrics,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "utc": now.isoformat(timespec="seconds"),
        }
        return flat(self._rows.add(row), self._names)

    def warn_if_failed(self, runs: Collection[tuple[str, int]]) -> None:
        """Warns if some of these runs have failed."""
        rows = [row for row in self._rows if (row["arm"], row["seed"]) in runs]
        failed = [row for row in rows if row["error"] is not None]
        if failed:
            first = failed[0]
            warnings.warn(
                f"{len(failed)} of {len(rows)} runs have failed, the first one "
                f"({first['arm']!r}, seed {first['seed']}, {first['error']}). "
                "Their rows are kept; `retry_failed=True` makes them again.",
                stacklevel=3,
            )

    def _compare_starts(self, seed: int, start: dict[str, str]) -> None:
        """Warns of starts alike for two seeds, or unlike for a seed's arms."""
        one = self._starts.setdefault(seed, start)
        problem, found = "", [x for x in one if one[x] != start.get(x, one[x])]
        if found:
            problem = (
                "The arms of a seed do not start from the same weights, so "
                "that they are not paired, and may have been trained before: "
                f"`make_model` must make or draw them anew. Received: seed "
                f"{seed}, in which {len(found)} of {len(one)} weights differ"
            )
        elif one is start and len(self._starts) == 2:
            other = next(iter(self._starts.values()))
            found = [x for x in one if one[x] == other.get(x)]
            problem = (
                "Some weights start alike for all seeds, which then differ by "
                "training only: their initializers have a seed of their own, "
                f"or `make_model` sets them. Received: {len(found)} of "
                f"{len(one)} weights alike for the seeds "
                f"{' and '.join(map(str, self._starts))}"
            )
        if found:
            more = ", ..." * (len(found) > 5)
            text = f"{problem}: {', '.join(found[:5])}{more}"
            warnings.warn(text, stacklevel=4)

    def _check_names(self, names: list[str]) -> None:
        """Checks the names that `train` returned against earlier ones."""
        own = [*COLUMNS, *self._rows.identity["environment"]]
        if self._metric not in (None, *names) or {*names} & {*own}:
            raise ValueError(
                f"`train` must return `metric`, and none of {', '.join(own)}. "
                f"Received: metric={self._metric!r}, and {names} from `train`"
            )
        if not self._names:
            earlier = (row["metrics"] for row in self._rows)
            self._names = list(next(filter(None, earlier), names))
        if {*names} != {*self._names}:
            raise ValueError(
                "`train` must return the same names for every run. "
                f"Received: {names}, but {self._names} before"
            )


def flat(row: Row, names: Iterable[str]) -> dict[str, Any]:
    """Returns a row as `Study.rows` lists it, with metrics of these names."""
    metrics: Mapping[str, float] = row["metrics"] or {}
    return {
        "arm": row["arm"],
        "seed": row["seed"],
        **{name: metrics.get(name) for name in names},
        **{key: row[key] for key in COLUMNS[2:]},
        **row["identity"]["environment"],
    }
