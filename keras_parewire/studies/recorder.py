"""From outcomes of runs to rows: which are written, and which end the call."""

import traceback
import warnings
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias

from keras_parewire.studies.rows import Rows, Run
from keras_parewire.studies.runs import Outcome, Runs

# Digests of the first weights, by seed.
Starts: TypeAlias = dict[int, dict[str, str]]


def record(
    rows: Rows, made: Iterable[tuple[int, Runs]], starts: Starts
) -> Iterator[dict[str, Any]]:
    """Writes the runs of each seed as they come, and yields the rows.

    Raises what the first run of an arm raised outside of training, or all runs
    of a seed, until some run of the study has ended by itself.
    """
    tried = {arm for arm, _ in rows.runs()}
    for seed, runs in made:
        held: list[tuple[str, Outcome]] = []
        for arm, outcome in runs:
            error = outcome.exception
            if error and not outcome.training and arm not in tried:
                raise error
            if outcome.start:
                _compare_starts(starts, seed, outcome.start)
            held.append((arm, outcome))
            if tried or error is None:
                # First the one that has the names of the metrics.
                for one, ended in reversed(held):
                    yield rows.add(one, seed, ended)
                    tried.add(one)
                held = []
                if error:  # Its traceback holds the model.
                    traceback.clear_frames(error.__traceback__)
        for _, outcome in held:
            raise outcome.exception or AssertionError


def warn_if_failed(rows: Rows, runs: Collection[Run]) -> None:
    """Warns if some of these runs have failed."""
    made = [row for row in rows if (row["arm"], row["seed"]) in runs]
    failed = [row for row in made if row["error"] is not None]
    if failed:
        first = failed[0]
        warnings.warn(
            f"{len(failed)} of {len(made)} runs have failed, the first one "
            f"({first['arm']!r}, seed {first['seed']}, {first['error']}). "
            "Their rows are kept; `retry_failed=True` makes them again.",
            stacklevel=3,
        )


def _compare_starts(starts: Starts, seed: int, start: dict[str, str]) -> None:
    """Warns of starts alike for two seeds, or unlike for a seed's arms."""
    one = starts.setdefault(seed, start)
    problem, found = "", [x for x in one if one[x] != start.get(x, one[x])]
    if found:
        problem = (
            "The arms of a seed do not start from the same weights, so that "
            "they are not paired, and may have been trained before: "
            "`make_model` must make or draw them anew. Received: seed "
            f"{seed}, in which {len(found)} of {len(one)} weights differ"
        )
    elif one is start and len(starts) == 2:
        other = next(iter(starts.values()))
        found = [x for x in one if one[x] == other.get(x)]
        problem = (
            "Some weights start alike for all seeds, which then differ by "
            "training only: their initializers have a seed of their own, or "
            f"`make_model` sets them. Received: {len(found)} of {len(one)} "
            f"weights alike for the seeds {' and '.join(map(str, starts))}"
        )
    if found:
        more = ", ..." * (len(found) > 5)
        text = f"{problem}: {', '.join(found[:5])}{more}"
        warnings.warn(text, stacklevel=4)
