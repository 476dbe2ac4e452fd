"""The optimizers of a model: whether they have trained, and their new state."""

from collections.abc import Iterator

import keras
from keras import ops

from keras_parewire.models.weights import Update, instances_in, walk
from keras_parewire.rewiring.values import known_values


def optimizers_of(
    model: keras.Model | keras.layers.Layer,
) -> list[keras.optimizers.Optimizer]:
    """Lists the optimizers in the attributes of a model and its layers."""
    optimizers = {
        id(optimizer): optimizer
        for layer in walk(model)
        for optimizer in instances_in(
            vars(layer).values(), keras.optimizers.Optimizer
        )
    }
    return list(optimizers.values())


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

    Only the learning rate stays. A schedule-free optimizer keeps copies of the
    weights and returns to them in its first step, so ask for its new state
    after the weights have changed.

    Args:
        model: The model.
        keep_trained: Whether to leave optimizers that have taken a step alone.
    """
    for optimizer in optimizers_of(model):
        if optimizer.built and not (keep_trained and steps_of(optimizer)):
            yield from _new_state(optimizer, model)


def _new_state(
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model | keras.layers.Layer,
) -> Iterator[Update]:
    # The model's own optimizer may train only some of its layers. One that fits
    # none of them trains other weights, and is left alone.
    for layer in walk(model):
        clone = type(optimizer).from_config(optimizer.get_config())
        clone.build(layer.trainable_variables)
        pairs = list(zip(optimizer.variables, clone.variables, strict=False))
        if len(clone.variables) == len(optimizer.variables) and all(
            one.shape == other.shape for one, other in pairs
        ):
            for variable, new in pairs:
                if variable is not optimizer.learning_rate:
                    yield variable, known_values(new)
            return
