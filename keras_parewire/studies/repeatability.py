"""Whether two runs of one seed give the same numbers, and if not, why."""

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_parewire.studies.arms import Arm
from keras_parewire.studies.runner import Runner

SEED, OTHER_SEED = 0, 1
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
        weights: A digest of the weights that it ended with.
    """

    numbers: dict[str, float]
    losses: list[float]
    weights: str


def check_repeatability(
    make_model: Callable[[], Any],
    train: Callable[..., Any],
    arms: Mapping[str, Arm],
    together: bool,
) -> str:
    """Trains one arm's seed in a first run and a later one; see `Study.check`.

    Another seed comes before the later one: what the backend traced or the
    program drew for good in its first run would be the same for the same seed.
    """

    def pair() -> tuple[_Run, _Run]:
        first, later = (
            _last_of(seeds, make_model, train, arms, together)
            for seeds in ([SEED], [OTHER_SEED, SEED])
        )
        return first, later

    first, later = pair()
    if first == later:
        return (
            f"Training is repeatable here: two runs of seed {SEED}, one with a "
            f"new model and one after a run of seed {OTHER_SEED}, gave the "
            f"same {' and '.join(first.numbers)} and weights, to the last bit."
        )
    ends = ", ".join(
        f"{name} by {abs(number - later.numbers[name]):.2g}"
        for name, number in first.numbers.items()
    )
    again = pair()
    # Noise would not come twice, nor end.
    if again == (first, later) or again[0] == again[1]:
        raise ValueError(
            "A run must not depend on those before it. Callbacks, pipelines, "
            "generators, buffers and optimizers that are no attributes of the "
            "model must be made within `train`, from its seed; layers and "
            "`train_step` must draw from a `keras.random.SeedGenerator` that "
            f"is an attribute. Received: two runs of seed {SEED}, of which the "
            f"one after a run of seed {OTHER_SEED} ends with other weights or "
            f"numbers ({ends})"
        )
    share = _largest_share(first.losses, later.losses)
    if share > _ROUNDING:
        raise ValueError(
            "Runs of one seed must see the same data in the same order, and "
            "draw the same random numbers: whatever draws by itself, such as a "
            "shuffled pipeline or a generator, must be made within `train`, "
            f"from its seed. Received: two runs of seed {SEED} from the same "
            f"weights, whose losses differ by {share:.0%} within the first "
            f"{_BATCHES} batches"
        )
    return _unequal(ends, bool(first.losses))


def _last_of(
    seeds: Sequence[int],
    make_model: Callable[[], Any],
    train: Callable[..., Any],
    arms: Mapping[str, Arm],
    together: bool,
) -> _Run:
    """Trains a new model with several seeds, and returns the last run."""
    losses: list[float] = []

    def watched(model: Any, *arguments: Any) -> Any:
        losses.clear()
        with _watched_fits(model, losses):
            return train(model, *arguments)

    runner = Runner(make_model, watched, arms, together)
    [arm] = arms
    numbers: dict[str, float] = {}
    for seed in seeds:
        outcome = runner.run(arm, seed)
        if outcome.metrics is None:
            raise RuntimeError(
                "`train` must finish and return finite numbers. Received: "
                f"seed={seed}, for which it raised or returned {outcome.error}"
            )
        numbers = outcome.metrics
    digest = hashlib.sha256()
    for values in runner.model.get_weights():
        digest.update(values.tobytes())
    return _Run(numbers, losses, digest.hexdigest())


def _unequal(ends: str, compared: bool) -> str:
    text = (
        "Training is not repeatable here to the last bit: two runs of seed "
        f"{SEED} from the same weights end with different weights or numbers "
        f"({ends}). "
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
