"""Paired studies of a user's own model."""

import csv
import datetime
import io
import itertools
import operator
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_parewire.rewiring.validation import as_integer
from keras_parewire.studies.arms import (
    Arm,
    call_problem,
    check_arms,
    describe,
)
from keras_parewire.studies.files import write_whole
from keras_parewire.studies.repeatability import check_repeatability
from keras_parewire.studies.rows import Row, Rows
from keras_parewire.studies.runner import Outcome, Runner, with_known_names
from keras_parewire.studies.statistics import (
    Comparison,
    check_margin,
    columns,
    compare,
    undecided_arms,
)

# The columns of a row besides its metrics.
_OWN_COLUMNS = ("arm", "seed", "error", "seconds", "threads", "flags", "utc")


class Study:
    """Trains a model from paired initial weights, seed by seed.

    For each seed, the weights of every arm start from the same draw of the
    model's own initializers (`reinitialize` with this seed), and training draws
    the same random numbers, so the arms differ in nothing else. A run depends
    only on its arm and its seed, not on earlier runs: its result is the same in
    any order, in any process and on any machine of the same kind. Weights that
    `make_model` loads or copies are lost: do so in `train`.

    Each run adds a file to the folder `path`. If the study is interrupted, the
    same call of `run` resumes it with the missing runs. A run whose
    training raises an exception, or returns NaN or infinity, is kept with the
    error and shown in the report; to run it again, delete its file.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_parewire import rewire_model
    >>> def make_model():
    ...     model = keras.Sequential(
    ...         [keras.Input((8,)), keras.layers.Dense(4)]
    ...     )
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> def train(model, seed):
    ...     x = np.ones((16, 8))
    ...     history = model.fit(x, x[:, :4], epochs=2, verbose=0).history
    ...     return {"loss": history["loss"][-1]}
    >>> path = tempfile.mkdtemp()  # Where the rows are to stay.
    >>> arms = {"plain": None, "pa": rewire_model}
    >>> study = Study(make_model, train, arms=arms, path=path)
    >>> study.run(seeds=range(3), verbose=0)
    >>> len(study.rows())
    6

    Args:
        make_model: Function without arguments that returns a built model,
            compiled if `train` needs it to be. Each process calls it once, and
            reuses the model for all its runs. It calls it again after a run
            that raised an exception, or changed attributes of layers or
            optimizers (such as `weight_decay` or `trainable`), which gives a
            warning.
        train: Function `(model, seed)` that trains the model and returns the
            numbers to compare, as a dict by name. It must not compile the
            model, and must make whatever draws by itself or keeps a state, such
            as a shuffled pipeline or a callback. In the first run of a process,
            it is stopped and called again when Keras has built the metrics.
        arms: Dict from names to arms, the first of which is the reference that
            the others are compared with. An arm is None (the model's own
            initializers), or a function that is called as `arm(model,
            seed=seed)` and changes the weights, such as `rewire_model` or
            `functools.partial(rewire_model, exponent=0)`.
        path: Folder for the rows, created when needed.
        together: How many runs `train` takes at once, for training that stacks
            the weights of several small models into one program. It is then
            called as `train(model, seeds, weights)` with the seeds of up to so
            many runs, and for each a list of the weights that it starts from,
            in the order of `model.weights`; it returns a list with a dict for
            each. All runs get the same random numbers. If it raises an
            exception, all of them fail. Name it in `config` if last bits depend
            on it. Defaults to None: one run at a time.
        metric: The name of the number that verdicts are about. Others are
            shown without. Defaults to None: the first that `train` returns.
        config: Dict of what else the results depend on, such as the number of
            epochs. Rows of different configurations do not mix. A function,
            such as an arm, is recognized only by its name: if you change what
            it does, change the configuration or the folder too. Defaults to
            None.

    Raises:
        ValueError: If `path` holds another study or other files; the message
            says what differs.
        TypeError: If an argument is of the wrong type.
    """

    def __init__(
        self,
        make_model: Callable[[], Any],
        train: Callable[..., Any],
        *,
        arms: Mapping[str, Arm],
        path: Any,
        together: int | None = None,
        metric: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if together is not None and (as_integer(together) or 0) < 1:
            raise ValueError(
                "`together` must be None or an integer, 1 or more. "
                f"Received: together={together!r}"
            )
        takes = ["model", "seed"]
        if together is not None:
            takes = ["model", "seeds", "weights"]
        for name, function, arguments in (
            ("make_model", make_model, []),
            ("train", train, takes),
        ):
            problem = call_problem(function, *arguments)
            if problem:
                raise TypeError(
                    f"`{name}` must be a function that is called as "
                    f"`{name}({', '.join(arguments)})`. "
                    f"Received: {name}={function!r}, for which {problem}"
                )
        if metric is not None and not isinstance(metric, str):
            raise TypeError(
                "`metric` must be the name of a number that `train` returns, "
                f"or None. Received: metric={metric!r}"
            )
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(
                f"`config` must be a dict or None. Received: config={config!r}"
            )
        self._make_model, self._train = make_model, train
        self.metric, self._together = metric, together
        self.arms: dict[str, Arm] = check_arms(arms)
        described = describe(self.arms, "arms")
        self._rows = Rows(path, described, describe(config or {}, "config"))
        self.path: Path = self._rows.path
        self._runner: Runner | None = None
        self._metrics: list[str] | None = None

    def check(self) -> str:
        """Says whether runs are repeatable here, to the last bit.

        Trains the first arm with the seed 0 twice, and writes no rows: once
        with a new model, as in a process that has not trained before, and once
        after a run of the seed 1. If they end with different numbers or
        weights, it does all of it again, to tell noise from what earlier runs
        left. What all runs of a process have in common is not seen, such as
        data whose order `train` draws in its first call and then keeps: make
        all of it in each call.

        Returns:
            A text that says whether both runs gave the same numbers and, if
            not, what that means. Kernels of GPUs that add numbers in a varying
            order are no error.

        Raises:
            ValueError: If the second run depends on the first, or the losses of
                the first batches differ by more than rounding: the runs saw
                other data, or the same in another order, or drew other random
                numbers.
            RuntimeError: If `train` fails.
        """
        first = dict(itertools.islice(self.arms.items(), 1))
        return check_repeatability(
            self._make_model, self._train, first, self._together is not None
        )

    def run(
        self,
        seeds: Iterable[int],
        *,
        until_decided: bool = False,
        margin: float | None = None,
        shard: tuple[int, int] | None = None,
        ray: bool | str = False,
        resources: Mapping[str, float] | None = None,
        on_run: Callable[[dict[str, Any]], object] | None = None,
        verbose: int = 1,
    ) -> None:
        """Trains the missing runs, all arms of a seed one after the other.

        On Ray, an actor for each GPU of the cluster (or each CPU, if it has no
        GPU) builds the model and gets one seed after the other with all its
        arms. Only this process writes rows. If a worker dies, for memory or
        anything else, another one goes on with its seed, until three have died
        of it. The workers need this package and whatever modules `make_model`
        and `train` import, in the same versions; both functions, and the data
        they refer to, go to each node once.

        Args:
            seeds: Integers, 0 or more, each once.
            until_decided: Whether an arm gets no more seeds once `compare` has
                a verdict on it. When all arms have one, the study ends. A run
                depends only on the rows of earlier seeds, in the order of
                `seeds`, so a study that is resumed makes the same runs as one
                that was never interrupted. Where several seeds run at once
                (together, in shards or on Ray), only rows that have been
                written when a seed begins can count. The verdicts are as
                reliable, but some runs may be made in vain or be missing;
                another call of `run` makes the missing ones. Defaults to
                False.
            margin: With `until_decided`, as in `compare`. Defaults to None.
            shard: None, or `(i, n)` for the i-th of n parts of the seeds, with
                i from 0 to n - 1: all jobs of an array may run on one folder at
                once. Defaults to None.
            ray: Whether to spread the runs over a Ray cluster: the one that
                `RAY_ADDRESS` names or that runs on this machine, or else a new
                one for this call. Or the address of a cluster, which must
                accept a connection within ten seconds and a driver within two
                minutes. Defaults to False.
            resources: What one actor on Ray takes, as in `{"num_cpus": 2}`.
                Defaults to None: one GPU, or one CPU where there is no GPU.
            on_run: Function that this process calls with each new row when it
                is written, a dict like those of `rows`, for example to log it:
                `lambda row: mlflow.log_metric("loss", row["loss"])`. What it
                raises ends the call. Defaults to None.
            verbose: 0 for silence, 1 for a progress bar over the runs.
                Defaults to 1.

        Raises:
            ValueError: If a seed is negative or repeated, the model is not
                built, an arm does not fit it, `train` returns other names than
                before, or the folder holds damaged rows or those of another
                environment.
            TypeError: If `make_model` does not return a model, `train` does
                not return a dict of numbers (together, a list of them), or an
                argument is of the wrong type.
            RuntimeError: If `train` compiles the model, or workers on Ray die
                repeatedly.
            ImportError: If `ray` is set but Ray is not installed.
            ConnectionError: If there is no Ray cluster at the address.

        Warns:
            UserWarning: If runs have failed, in this call or an earlier one, or
                if weights of the model are not those that its initializers
                draw, which each run loses.
        """
        every = check_seeds(seeds)
        part, parts = (0, 1) if shard is None else _check_shard(shard)
        numbers = every[part::parts]
        check_margin(margin)
        if margin is not None and not until_decided:
            raise ValueError(
                "`margin` must come with `until_decided=True`, or be given to "
                f"`report`. Received: margin={margin!r}, until_decided=False"
            )
        if until_decided and len(self.arms) < 2:
            raise ValueError(
                "`until_decided` needs two arms to compare. "
                f"Received: arms={list(self.arms)}"
            )
        if not (isinstance(ray, bool) or (isinstance(ray, str) and ray)):
            raise TypeError(
                "`ray` must be a boolean or the address of a cluster. "
                f"Received: ray={ray!r}"
            )
        if resources is not None and ray is False:
            raise ValueError(
                "`resources` must come with `ray`, whose actors take them. "
                f"Received: resources={resources!r}, ray=False"
            )
        if self._together is not None and ray is not False:
            raise ValueError(
                "`ray` must be False if `train` takes several runs together; "
                f"use `shard`. Received: ray={ray!r}"
            )
        if not (on_run is None or callable(on_run)):
            raise TypeError(
                "`on_run` must be a function that takes a row, or None. "
                f"Received: on_run={on_run!r}"
            )
        done = self._rows.runs()
        wanted = [(arm, seed) for seed in numbers for arm in self.arms]
        # Those of earlier calls too: they are not made again.
        rows = [self._rows.read(*run) for run in wanted if run in done]

        def missing() -> Iterator[tuple[int, list[str]]]:
            """Yields the seeds that need a run, with their missing arms."""
            for seed in numbers:
                arms = list(self.arms)
                if until_decided:
                    later = every[every.index(seed) :]
                    arms = self._undecided_arms(set(later), margin)
                arms = [arm for arm in arms if (arm, seed) not in done]
                if arms:
                    yield seed, arms

        tasks = missing()
        first = next(tasks, None)
        if first is None:
            self._warn_if_failed(rows)
            return
        # Before the bar, which would count building as part of the first run.
        runner = self._built_runner() if ray is False else None
        # The most there can be.
        total = len(set(wanted) - done)
        bar = keras.utils.Progbar(total, unit_name="run") if verbose else None

        earlier = len(rows)

        def record(arm: str, seed: int, outcome: Outcome) -> None:
            row = self._record(arm, seed, outcome)
            rows.append(row)
            if on_run is not None:
                on_run(_flat(row, self._metrics or ()))
            if bar is not None:
                bar.add(1)

        if runner is not None:
            self._rows.begin(runner.environment)
            # Interrupted training may leave the model without its variables.
            self._runner = None
            runs = (
                (arm, seed)
                for seed, arms in itertools.chain([first], tasks)
                for arm in arms
            )
            while batch := list(itertools.islice(runs, self._together or 1)):
                outcomes = runner.run_all(batch)
                for run, outcome in zip(batch, outcomes, strict=True):
                    record(*run, outcome)
            self._runner = runner
        else:
            from keras_parewire.studies import cluster

            cluster.run(
                (self._make_model, self._train, self.arms),
                itertools.chain([first], tasks),
                begin=self._rows.begin,
                record=record,
                address=ray if isinstance(ray, str) else None,
                resources=resources,
            )
        made = len(rows) - earlier
        if bar is not None and made < total:  # All others are decided.
            bar.update(made, finalize=True)
        self._warn_if_failed(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Returns a dict for each run, ordered by seed.

        `pandas.DataFrame(study.rows())` makes a table of them. A failed run has
        None for each metric, and the reason in `"error"`. The threads of the
        backend and the environment variables that change how it computes
        (`"flags"`) are recorded, but runs that differ in them may mix.
        """
        rows = list(self._rows)
        names = list(
            dict.fromkeys(name for row in rows for name in row["metrics"] or ())
        )
        return [_flat(row, names) for row in rows]

    def to_csv(self, path: Any) -> None:
        """Writes all rows to one CSV file, whole or not at all.

        Args:
            path: The file, which is replaced if it exists.

        Raises:
            ValueError: If there are no rows yet.
        """
        self._some_rows()
        rows = self.rows()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(Path(path), text.getvalue())

    def compare(
        self, *, margin: float | None = None, planned: bool = False
    ) -> list[Comparison]:
        """Compares all arms with the first one, over the seeds that both have.

        This is the function `compare`, applied to the rows so far.

        Args:
            margin: A difference that is too small to matter, in the metric that
                verdicts are about. Defaults to None.
            planned: Whether the number of seeds was fixed before the first
                look. Needs `keras_parewire[study]`. Defaults to False.

        Returns:
            A list with a `Comparison` for each metric and arm, those of the
            metric that verdicts are about first.

        Raises:
            ValueError: If there are no rows yet, the rows are without the
                study's `metric`, or `margin` is not positive.
        """
        values = columns(self._some_rows(), self.arms)
        return compare(
            values, metric=self.metric, margin=margin, planned=planned
        )

    def report(
        self, *, margin: float | None = None, planned: bool = False
    ) -> str:
        """Returns what the rows show, and how certain it is, as Markdown.

        The report names arms that fail more often than the first one. It has a
        sentence on each arm, with the number of seeds that a verdict probably
        still takes, and tables of what `compare` returns for all metrics. A
        notebook renders it.

        Args:
            margin: As in `compare`.
            planned: As in `compare`.

        Raises:
            ValueError: As in `compare`.
        """
        from keras_parewire.studies.report import report

        rows = self._some_rows()
        return report(rows, list(self.arms), self.metric, margin, planned)

    def plot(
        self, *, margin: float | None = None, planned: bool = False
    ) -> Any:
        """Plots what `compare` returns, and each seed's difference as a dot.

        Other metrics than the one that verdicts are about are in a plot of
        their own, in standard deviations of the differences. Needs
        `keras_parewire[study]`.

        Args:
            margin: As in `compare`.
            planned: As in `compare`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: As in `compare`, or if no seed has completed runs of two
                arms.
        """
        from keras_parewire.studies.plot import plot

        found = self.compare(margin=margin, planned=planned)
        return plot(columns(self._rows, self.arms), found, margin)

    def _warn_if_failed(self, rows: list[Row]) -> None:
        failed = [row for row in rows if row["error"] is not None]
        if failed:
            first = failed[0]
            warnings.warn(
                f"{len(failed)} of {len(rows)} runs have failed, the first one "
                f"({first['arm']!r}, seed {first['seed']}, {first['error']}). "
                "Their rows are kept; to make a run again, delete its file in "
                f"{str(self.path / 'runs')!r}.",
                stacklevel=3,
            )

    def _undecided_arms(
        self, later: Collection[int], margin: float | None
    ) -> list[str]:
        """Returns the arms that the rows of other seeds leave undecided."""
        rows = (row for row in self._rows if row["seed"] not in later)
        values = columns(rows, self.arms)
        return undecided_arms(values, metric=self.metric, margin=margin)

    def _built_runner(self) -> Runner:
        if self._runner is None:
            self._runner = Runner(
                self._make_model,
                self._train,
                self.arms,
                self._together is not None,
            )
        return self._runner

    def _record(self, arm: str, seed: int, outcome: Outcome) -> Row:
        metrics = outcome.metrics
        if metrics is not None:
            if self._metrics is None:
                earlier = (row["metrics"] for row in self._rows)
                self._metrics = list(next(filter(None, earlier), metrics))
            metrics = with_known_names(metrics, self._metrics)
            self._check_names(arm, seed, list(metrics))
        now = datetime.datetime.now(datetime.UTC)
        row: Row = {
            "arm": arm,
            "seed": seed,
            "metrics": metrics,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "threads": outcome.threads,
            "flags": outcome.flags,
            "utc": now.isoformat(timespec="seconds"),
        }
        return self._rows.add(row)

    def _check_names(self, arm: str, seed: int, names: list[str]) -> None:
        own = (*_OWN_COLUMNS, *(self._rows.environment or ()))
        if set(names) & set(own):
            raise ValueError(
                "The names that `train` returns must not be any of "
                f"{', '.join(own)}. Received: {names}"
            )
        if self.metric is not None and self.metric not in names:
            raise ValueError(
                "`metric` must be one of the numbers that `train` returns. "
                f"Received: metric={self.metric!r}, and {names} from `train`"
            )
        if set(names) != set(self._metrics or ()):
            raise ValueError(
                "`train` must return the same names for every run, here "
                f"{self._metrics}. Received: {names} for the arm {arm!r}, "
                f"seed={seed}"
            )

    def _some_rows(self) -> list[Row]:
        rows = list(self._rows)
        if not rows:
            raise ValueError(
                "There must be rows: call `run` first. "
                f"Received: path={str(self.path)!r} with 0 rows"
            )
        return rows


def _flat(row: Row, names: Iterable[str]) -> dict[str, Any]:
    """Returns a row as `Study.rows` lists it, with metrics of these names."""
    metrics = row["metrics"] or {}
    return {
        "arm": row["arm"],
        "seed": row["seed"],
        **{name: metrics.get(name) for name in names},
        **{key: row[key] for key in _OWN_COLUMNS[2:]},
        **row["identity"]["environment"],
    }


def check_seeds(seeds: Any) -> list[int]:
    """Returns the seeds as a list of distinct integers, 0 or more."""
    listed = list(seeds) if isinstance(seeds, Iterable) else [None]
    numbers = [n for seed in listed if (n := as_integer(seed)) is not None]
    if len(numbers) < len(listed):
        raise TypeError(
            "`seeds` must be integers, as in `range(20)`. "
            f"Received: seeds={seeds!r}"
        )
    negative = [number for number in numbers if number < 0]
    if negative:
        raise ValueError(
            f"`seeds` must be 0 or more. Received: seeds with {negative[0]}"
        )
    if len(set(numbers)) < len(numbers):
        twice = next(n for i, n in enumerate(numbers) if n in numbers[:i])
        raise ValueError(
            f"`seeds` must name each seed once. Received: seeds with {twice} "
            "more than once"
        )
    return numbers


def _check_shard(shard: Any) -> tuple[int, int]:
    try:
        part, parts = map(operator.index, shard)
        if not 0 <= part < parts:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            "`shard` must be None or two integers `(i, n)`, i from 0 to n - 1. "
            f"Received: shard={shard!r}"
        ) from None
    return part, parts
