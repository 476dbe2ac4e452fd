"""Whether two runs of one seed give the same numbers, and if not, why."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_parewire.studies.arms import Arm
from keras_parewire.studies.runner import Runner

SEED = 0
# How many of the first batches are compared.
_BATCHES = 10
# By what share losses of these batches may differ for rounding, even in half
# precision. Those of other data differ by more, if batches are not huge.
_ROUNDING = 1e-3


class _Run(NamedTuple):
    """What one run showed.

    Attributes:
        numbers: What `train` returned.
        losses: The losses of the first batches, if it called `fit`.
    """

    numbers: dict[str, float]
    losses: list[float]


def check_repeatability(
    make_model: Callable[[], Any],
    train: Callable[..., Any],
    arm: Arm,
    together: bool,
) -> str:
    """Trains one seed twice; see `Study.check`."""
    one, other = _two_runs(make_model, train, arm, together)
    if one == other:
        return (
            f"Training is repeatable here: two runs of seed {SEED}, the first "
            "with a new model and the second with the one that it left, gave "
            f"the same {' and '.join(one.numbers)} to the last bit."
        )
    ends = ", ".join(
        f"{name} by {abs(number - other.numbers[name]):.2g}"
        for name, number in one.numbers.items()
    )
    # Noise would not come twice.
    if _two_runs(make_model, train, arm, together) == (one, other):
        raise ValueError(
            "A run must not depend on those before it: whatever training "
            "changes besides the model and its optimizers, such as a "
            "generator, a pipeline or an optimizer that is not an attribute "
            "of the model, must be made within `train`. Received: two runs of "
            f"seed {SEED}, of which the second ends with other numbers "
            f"({ends}) than the first, and does so again with a new model"
        )
    share = _largest_share(one.losses, other.losses)
    if share > _ROUNDING:
        raise ValueError(
            "Runs of one seed must see the same data in the same order, and "
            "draw the same random numbers: whatever draws by itself, such as a "
            "shuffled pipeline or a generator, must be made within `train`, "
            f"from its seed. Received: two runs of seed {SEED} from the same "
            f"weights, whose losses differ by {share:.0%} within the first "
            f"{_BATCHES} batches"
        )
    return _unequal(ends, bool(one.losses))


def _two_runs(
    make_model: Callable[[], Any],
    train: Callable[..., Any],
    arm: Arm,
    together: bool,
) -> tuple[_Run, ...]:
    """Trains a new model, and then the one that this left."""
    losses: list[list[float]] = []

    def watched(model: Any, *arguments: Any) -> Any:
        losses.append([])
        with _watched_fits(model, losses[-1]):
            return train(model, *arguments)

    arms = {"one": arm, "other": arm}
    runner = Runner(make_model, watched, arms, together)
    runs = []
    for name in arms:
        outcome = runner.run(name, SEED)
        if outcome.metrics is None:
            raise RuntimeError(
                "`train` must finish and return finite numbers. Received: "
                f"seed={SEED}, for which it raised or returned {outcome.error}"
            )
        # A first run that begins again has two lists.
        runs.append(_Run(outcome.metrics, losses[-1]))
    return tuple(runs)


def _unequal(ends: str, compared: bool) -> str:
    text = (
        "Training is not repeatable here to the last bit: two runs of seed "
        f"{SEED} from the same weights end with different numbers ({ends}). "
    )
    if compared:
        text += (
            f"In their first {_BATCHES} batches the losses are the same but "
            "for rounding, so the data are in the same order. Many kernels of "
            "GPUs add numbers in an order that varies. "
        )
    else:
        text += (
            "`train` calls no `fit`, so it cannot be seen whether the data are "
            "in the same order: make whatever draws within `train`, from its "
            "seed. If they are, kernels of a GPU that add numbers in a varying "
            "order may be the cause. "
        )
    return text + (
        "Equal arms then differ by as much, at random: verdicts stay valid, "
        "but take more seeds."
    )


def _largest_share(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns by what share of their size two runs' losses differ at most."""
    if len(one) != len(other):
        return 1.0
    return max(
        (
            abs(a - b) / max(abs(a), abs(b))
            for a, b in zip(one, other, strict=True)
            if a != b
        ),
        default=0.0,
    )


@contextlib.contextmanager
def _watched_fits(model: Any, losses: list[float]) -> Iterator[None]:
    """Notes the losses of the first batches that a model is fitted to."""

    def note(batch: int, logs: Mapping[str, Any]) -> None:
        if len(losses) < _BATCHES:
            losses.append(float(logs.get("loss", 0)))

    fit = model.fit
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def watched(*args: Any, **kwargs: Any) -> Any:
        watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks.append(watch)
        else:
            if isinstance(given, keras.callbacks.Callback):
                given = [given]
            bound.arguments["callbacks"] = [watch, *(given or [])]
        return fit(*bound.args, **bound.kwargs)

    model.fit = watched
    try:
        yield
    finally:
        del model.fit
