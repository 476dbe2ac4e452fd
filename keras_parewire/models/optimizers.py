"""The optimizers of a model: whether they have trained, and their new state."""

from collections.abc import Iterator

import keras
from keras import ops

from keras_parewire.models.weights import Update, held_by, instances_in
from keras_parewire.rewiring.values import known_values


def optimizers_of(
    model: keras.Model | keras.layers.Layer,
) -> list[keras.optimizers.Optimizer]:
    """Lists the optimizers in the attributes of a model and its layers."""
    return held_by(model, keras.optimizers.Optimizer)


def steps_of(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns how many steps an optimizer has taken."""
    return int(ops.convert_to_numpy(optimizer.iterations))


def check_no_steps(model: keras.Model | keras.layers.Layer) -> None:
    """Checks that no optimizer has taken a step, which would be lost."""
    steps = sum(map(steps_of, optimizers_of(model)))
    if steps:
        raise ValueError(
            "The weights of `model` must not have been trained, since it would "
            "lose what it has learned. To train it from new weights, first "
            "call `reinitialize` on all of it; to change the trained weights "
            f"nevertheless, compile it again. Received: model={model.name!r} "
            f"after {steps} optimizer steps"
        )


def new_state(
    model: keras.Model | keras.layers.Layer, *, keep_trained: bool = False
) -> Iterator[Update]:
    """Yields the updates that make the optimizers of a model new.

    Only learning rates stay. A schedule-free optimizer keeps copies of the
    weights and returns to them in its first step, so ask for its new state
    after the weights have changed.

    Args:
        model: The model.
        keep_trained: Whether to leave optimizers that have taken a step alone.
    """
    for optimizer in optimizers_of(model):
        if optimizer.built and not (keep_trained and steps_of(optimizer)):
            yield from _new_state(optimizer)


def learning_rates_of(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Lists the learning rates of an optimizer and of those that it wraps."""
    rates = (getattr(each, "learning_rate", None) for each in _nest(optimizer))
    return [rate for rate in rates if isinstance(rate, keras.Variable)]


def _new_state(optimizer: keras.optimizers.Optimizer) -> Iterator[Update]:
    try:
        clone = type(optimizer).from_config(optimizer.get_config())
        clone.build(_trained_by(optimizer))
    except Exception as error:
        raise ValueError(
            "An optimizer of `model` must be one that can be re-created from "
            f"its config. Received: optimizer {optimizer.name!r} of type "
            f"{type(optimizer).__name__}, which raises {error}"
        ) from error
    old, new = optimizer.variables, clone.variables
    shapes, new_shapes = ([tuple(v.shape) for v in each] for each in (old, new))
    if shapes != new_shapes:
        raise ValueError(
            "An optimizer of `model` must have the same variables when it is "
            "re-created from its config and built for the same weights. "
            f"Received: optimizer {optimizer.name!r} of type "
            f"{type(optimizer).__name__} with variables of the shapes "
            f"{shapes}, which has {new_shapes} when re-created"
        )
    rates = set(map(id, learning_rates_of(optimizer)))
    for variable, value in zip(old, new, strict=True):
        if id(variable) not in rates:
            yield variable, known_values(value)


def _trained_by(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Lists the weights that an optimizer was built for, in their order.

    They need not be all that train in a layer now: it may have been built for
    layers of several models, or before one was frozen.
    """
    own = set(map(id, optimizer.variables))
    held = instances_in(vars(optimizer).values(), keras.Variable)
    return list({id(v): v for v in held if id(v) not in own}.values())


def _nest(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[keras.optimizers.Optimizer]:
    """Yields an optimizer and those that it wraps."""
    yield optimizer
    for inner in instances_in(
        vars(optimizer).values(), keras.optimizers.Optimizer
    ):
        yield from _nest(inner)
