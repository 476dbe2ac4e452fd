"""Whether two runs of one seed give the same numbers, and if not, why."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_parewire.studies.arms import Arm
from keras_parewire.studies.runner import Runner

SEED = 0
# How many of the first batches are compared.
_BATCHES = 10
# By what share losses of these batches may differ for rounding, even in half
# precision. Those of other data differ by more, if batches are not huge.
_ROUNDING = 1e-3


def check_repeatability(
    make_model: Callable[[], Any],
    train: Callable[..., Any],
    arm: Arm,
    together: bool,
) -> str:
    """Trains one seed twice; see `Study.check`."""
    runs: list[list[float]] = []

    def watched(model: Any, *arguments: Any) -> Any:
        runs.append([])
        with _watched_fits(model, runs[-1]):
            return train(model, *arguments)

    arms = {"one": arm, "other": arm}
    runner = Runner(make_model, watched, arms, together)
    numbers, losses = [], []
    for name in ("one", "other"):
        outcome = runner.run(name, SEED)
        if outcome.metrics is None:
            raise RuntimeError(
                "`train` must finish and return finite numbers. Received: "
                f"seed={SEED}, for which it raised or returned {outcome.error}"
            )
        numbers.append(outcome.metrics)
        losses.append(runs[-1])  # A first run that begins again has two.
    if numbers[0] == numbers[1] and losses[0] == losses[1]:
        return (
            f"Training is repeatable here: two runs of seed {SEED}, the first "
            "with a new model and the second with the one that it left, gave "
            f"the same {' and '.join(numbers[0])} to the last bit."
        )
    share = _largest_share(*losses)
    if share > _ROUNDING:
        raise ValueError(
            "Runs of one seed must see the same data in the same order, and "
            "draw the same random numbers: whatever draws by itself, such as a "
            "shuffled pipeline or a generator, must be made within `train`, "
            f"from its seed. Received: two runs of seed {SEED} from the same "
            f"weights, whose losses differ by {share:.0%} within the first "
            f"{_BATCHES} batches"
        )
    return _unequal(numbers[0], numbers[1], bool(losses[0]))


def _unequal(
    one: Mapping[str, float], other: Mapping[str, float], compared: bool
) -> str:
    ends = ", ".join(f"{k} by {abs(one[k] - other[k]):.2g}" for k in one)
    text = (
        "Training is not repeatable here to the last bit: two runs of seed "
        f"{SEED} from the same weights end with different numbers ({ends}). "
    )
    if compared:
        text += (
            f"In their first {_BATCHES} batches the losses are the same but "
            "for rounding, so the data are in the same order. "
        )
    else:
        text += (
            "`train` calls no `fit`, so it cannot be seen whether the data are "
            "in the same order: make whatever draws within `train`, from its "
            "seed. "
        )
    return text + (
        "Many kernels of GPUs add numbers in an order that varies. Equal arms "
        "then differ by as much, at random: verdicts stay valid, but take more "
        "seeds."
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
