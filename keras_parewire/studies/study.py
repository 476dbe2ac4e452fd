"""Paired studies of a user's own model."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_parewire.rewiring.validation import check_positive
from keras_parewire.studies import runs, statistics
from keras_parewire.studies.check import Check, check
from keras_parewire.studies.identity import describe, identify
from keras_parewire.studies.recorder import Starts, record, warn_if_failed
from keras_parewire.studies.rows import Row, Rows, flat
from keras_parewire.studies.statistics import Comparison, compare


class Study:
    """Trains models from paired initial weights, seed by seed.

    A run makes its own model, as in a loop that you would write:

    ```python
    keras.utils.set_random_seed(seed)
    model = make_model()
    arm(model, seed=seed)
    keras.utils.set_random_seed(another_seed)  # Derived from `seed`.
    metrics = train(model, seed)
    ```

    For each seed, all arms start from the same draw, and training draws the
    same random numbers. If `train` makes what else it draws from its seed, a
    run depends only on its arm and its seed, on machines of one kind.

    Each run adds a file to the folder `path`, and the same call of `run`
    resumes the study. Runs that raise or return NaN are kept with the error.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_parewire import rewire_model
    >>> def make_model():
    ...     return keras.Sequential(
    ...         [keras.Input((8,)), keras.layers.Dense(4)]
    ...     )
    >>> def train(model, seed):
    ...     x = np.ones((16, 8))
    ...     model.compile("sgd", "mse")
    ...     history = model.fit(x, x[:, :4], epochs=2, verbose=0).history
    ...     return {"loss": history["loss"][-1]}
    >>> study = Study(
    ...     make_model,
    ...     train,
    ...     arms={"plain": None, "pa": rewire_model},
    ...     path=tempfile.mkdtemp(),  # Where the rows are to stay.
    ...     config={"epochs": 2},
    ... )
    >>> study.run(seeds=range(3), verbose=0)
    >>> len(study.rows())
    6

    Args:
        make_model: Function without arguments that returns a Keras model whose
            weights exist. What it loads or sets stays.
        train: Function `(model, seed)` that trains the model and returns the
            numbers to compare, as a dict by name. It may compile the model,
            freeze parts of it and train in stages.
        arms: Dict from names to arms; the others are compared with the first.
            An arm is None (the model as it is made), or a function `arm(model,
            seed=seed)` that changes the weights, such as `rewire_model`.
        path: Folder for the rows, which is created.
        metric: The name of the number that verdicts are about. Others are
            shown without. Defaults to None: the first that `train` returns.
        config: Dict of what else the results depend on: constants, versions of
            data and helper functions. Rows of others are refused. Defaults to
            None.
        any_code: Whether rows count that other code of `make_model`, `train` or
            an arm has made (comments and layout aside). Defaults to False: they
            are refused. A warning names code that cannot be read.

    Raises:
        ValueError: If `path` holds another study; the message says what
            differs.
        TypeError: If an argument is of the wrong type.
    """

    def __init__(
        self,
        make_model: Callable[[], Any],
        train: Callable[[Any, int], Any],
        *,
        arms: Mapping[str, runs.Arm],
        path: Any,
        metric: str | None = None,
        config: Mapping[str, Any] | None = None,
        any_code: bool = False,
    ) -> None:
        runs.check_function("make_model", make_model)
        runs.check_function("train", train, "model", "seed")
        config = config or {}
        if not (isinstance(metric or "", str) and isinstance(config, Mapping)):
            raise TypeError(
                "`metric` must be a name or None, `config` a dict or None. "
                f"Received: metric={metric!r}, config={config!r}"
            )
        self.arms: dict[str, runs.Arm] = runs.check_arms(arms)
        self.metric = metric
        self._parts: runs.Parts = make_model, train, self.arms
        described = describe(self.arms, "arms")
        identity = {
            "config": describe(dict(config), "config"),
            "make_model": describe(make_model, "make_model"),
            "train": describe(train, "train"),
        }
        self._rows = Rows(path, described, identity, metric, any_code)
        self.path: Path = self._rows.path
        self._found_out: dict[str, Any] | None = None
        self._starts: Starts = {}

    def check(self) -> Check:
        """Says whether runs are repeatable, and what the arms change.

        Trains the first arm with the seeds 0, 1 and 0, without rows. Returns a
        `Check`: print it, or read `repeatable`. Raises what `train` raises.
        """
        return check(*self._parts)

    def run(
        self,
        seeds: Iterable[int],
        *,
        until_decided: bool = False,
        margin: float | None = None,
        retry_failed: bool = False,
        ray: bool | Mapping[str, Any] = False,
        on_run: Callable[[dict[str, Any]], object] | None = None,
        verbose: int = 1,
    ) -> None:
        """Makes the missing runs, all arms of a seed one after the other.

        Several processes may work on one folder at once, each on its own part
        of the seeds, such as `range(i, 100, n)`.

        Args:
            seeds: Integers, 0 or more, each once.
            until_decided: Whether an arm gets no more seeds once `compare` has
                a verdict on it. When all have one, the study ends. Only rows of
                earlier seeds count, in the order of `seeds` (where several run
                at once, those that are there), so a study that is resumed makes
                the same runs. Defaults to False.
            margin: With `until_decided`, as in `compare`. Defaults to None.
            retry_failed: Whether to make failed runs again. Defaults to False.
            ray: Whether to spread the seeds over a Ray cluster, to which
                `ray.init` may have connected; or Ray's options for the task
                that trains a seed, as in `{"num_cpus": 2}`, by default one GPU,
                or one CPU where there is no GPU. A seed that kills three
                workers is kept as failed. Defaults to False.
            on_run: Function that is called with each row when it is written, a
                dict like those of `rows`. Defaults to None.
            verbose: 0 for silence, 1 for a progress bar. Defaults to 1.

        Raises:
            Exception: What the functions raised, without rows, if nothing has
                worked yet: no run of the study, or no start of an arm.
            ValueError: If an argument is wrong, `train` returns other names
                than before, or the folder holds other or damaged rows.
            TypeError: If another argument is of the wrong type.
            ImportError: If `ray` is set but Ray is not installed.

        Warns:
            UserWarning: If runs have failed, in this call or an earlier one, or
                if weights start alike for two seeds, or unlike for two arms.
        """
        numbers = runs.check_seeds(seeds)
        if margin is not None:
            check_positive(margin, "margin")
        if not (isinstance(ray, bool | Mapping) and callable(on_run or print)):
            raise TypeError(
                "`ray` must be a boolean or a dict, `on_run` a function or "
                f"None. Received: ray={ray!r}, on_run={on_run!r}"
            )
        wanted = {(arm, seed) for seed in numbers for arm in self.arms}
        rows = [row for row in self._rows if retry_failed and row["error"]]
        failed = {(row["arm"], row["seed"]) for row in rows}
        there = (self._rows.runs() - failed) & wanted
        total = len(wanted) - len(there)

        def undecided(rows: Iterable[Row]) -> list[str]:
            values = statistics.columns(rows, self.arms)
            return statistics.undecided_arms(
                values, metric=self.metric, margin=margin
            )

        def missing() -> Iterator[tuple[int, list[str], bool]]:
            """Yields seeds, their missing arms, and whether to keep starts."""
            begun = 0
            for place, seed in enumerate(numbers):
                rows = list(self._rows)  # Raises if another study writes here.
                arms = list(self.arms)
                if until_decided:
                    later = set(numbers[place:])
                    earlier = (row for row in rows if row["seed"] not in later)
                    arms = undecided(earlier)
                arms = [arm for arm in arms if (arm, seed) not in there]
                if arms:
                    begun += 1
                    yield seed, arms, begun <= 2

        made = (
            (seed, runs.make_runs(self._parts, seed, arms, with_start))
            for seed, arms, with_start in missing()
        )
        if ray is not False:
            from keras_parewire.studies.cluster import make_all

            made = make_all(self._parts, missing(), {} if ray is True else ray)
        if verbose and there:
            print(f"{len(there)} rows there, {total} to make")
        bar = keras.utils.Progbar(total, unit_name="run", verbose=verbose)
        count = 0
        with contextlib.closing(made):  # Also the tasks of an ended call.
            for row in record(self._rows, made, self._starts):
                count += 1
                if on_run is not None:
                    on_run(row)
                bar.update(count)
        if 0 < count < total:
            bar.update(count, finalize=True)
        there = self._rows.runs() & wanted
        warn_if_failed(self._rows, there)
        if verbose and until_decided and not undecided(self._rows):
            print(
                f"Stopped after {len({seed for _, seed in there})} of "
                f"{len(numbers)} seeds: every arm is decided"
            )

    def add(self, arm: str, seed: int, metrics: Mapping[str, float]) -> None:
        """Adds the row of a run that was made elsewhere.

        It must have been made as the class says. The first call makes a model,
        to learn what rows say of it. Only rows of failures are replaced.

        Args:
            arm: Name of the arm.
            seed: Integer, 0 or more.
            metrics: The numbers by name, as `rows` names them.

        Raises:
            ValueError: If there is no such arm, or as in `run`.
            TypeError: If `metrics` is no dict of numbers.
        """
        if arm not in self.arms:
            raise ValueError(
                f"`arm` must be one of {', '.join(self.arms)}. "
                f"Received: arm={arm!r}"
            )
        [seed] = runs.check_seeds([seed])
        outcome = runs.Outcome.of(runs.check_metrics(metrics))
        if self._found_out is None:
            self._found_out = identify(runs.new_model(self._parts[0], seed))
        self._rows.add(arm, seed, outcome._replace(identity=self._found_out))

    def rows(self) -> list[dict[str, Any]]:
        """Returns a dict for each run, ordered by seed.

        `pandas.DataFrame(study.rows())` makes a table of them. A failed run has
        None for each metric, and the reason in `"error"`.
        """
        rows = list(self._rows)
        names = dict.fromkeys(n for row in rows for n in row["metrics"] or ())
        return [flat(row, names) for row in rows]

    def compare(self, *, margin: float | None = None) -> list[Comparison]:
        """Applies the function `compare` to the rows so far.

        Returns a list with a `Comparison` for each metric and arm. Raises a
        ValueError if there are no rows yet, and the function's errors.
        """
        values = statistics.columns(self._rows.some(), self.arms)
        return compare(values, metric=self.metric, margin=margin)

    def report(self, *, margin: float | None = None) -> str:
        """Returns what the rows show, and how certain it is, as Markdown.

        It names arms that fail more often than the first one, and has a
        sentence on each arm, with the number of seeds that a verdict probably
        still takes, and tables of what `compare` returns. A notebook renders
        it. Arguments and errors are those of `compare`.
        """
        from keras_parewire.studies.report import report

        return report(self._rows.some(), list(self.arms), self.metric, margin)

    def plot(self, *, margin: float | None = None) -> Any:
        """Plots what `compare` returns, and each seed's difference as a dot.

        Returns a `matplotlib.figure.Figure` of the metric that verdicts are
        about. Needs `keras_parewire[plot]`. Arguments and errors are those of
        `compare`, or no seed may have completed runs of two arms.
        """
        from keras_parewire.visualization import plot_comparisons

        values = statistics.columns(self._rows, self.arms)
        found = [x for x in self.compare(margin=margin) if x.n and x.verdict]
        samples = [
            statistics.paired_differences(values, x.arm, x.metric)
            for x in found
        ]
        return plot_comparisons(found, samples, margin)
