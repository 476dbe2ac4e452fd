"""The optimizers of a model, and what they know of its weights."""

from collections.abc import Iterable, Iterator

import keras
from keras import ops

from keras_parewire.models.weights import Update, instances_in, walk
from keras_parewire.rewiring.validation import (
    Tensor,
    concrete_values,
    known_values,
)

# An optimizer's variable, and the weight whose values it holds.
Copy = tuple[keras.Variable, keras.Variable]


def optimizers_of(
    model: keras.Model | keras.layers.Layer,
) -> list[keras.optimizers.Optimizer]:
    """Lists the optimizers in the attributes of a model and its layers."""
    found = {
        id(optimizer): optimizer
        for layer in walk(model)
        for optimizer in instances_in(
            vars(layer).values(), keras.optimizers.Optimizer
        )
    }
    return list(found.values())


def check_no_steps(model: keras.Model | keras.layers.Layer) -> None:
    """Checks that no optimizer has taken a step, which would be lost."""
    steps = sum(map(_steps, optimizers_of(model)))
    if steps:
        raise ValueError(
            "The weights of `model` must not have been trained, since it would "
            "lose what it has learned. To train it from new weights, first "
            "call `reinitialize` on all of it; to change the trained weights "
            f"nevertheless, compile it again. Received: model={model.name!r} "
            f"after {steps} optimizer steps"
        )


def find_copies(model: keras.Model | keras.layers.Layer) -> list[Copy]:
    """Lists the variables of optimizers that are copies of weights.

    A schedule-free optimizer makes them when it is built, and in its first step
    returns the weights to them.
    """
    copies: list[Copy] = []
    for optimizer in optimizers_of(model):
        if not optimizer.built or _steps(optimizer):
            continue  # There is no copy yet, or it has been trained.
        weights = list(model.trainable_variables)
        for variable in optimizer.variables:
            # The variables of other optimizers start at 0.
            if not _holds(ops.any(ops.not_equal(variable, 0))):
                continue
            weight = next((w for w in weights if _is_copy(variable, w)), None)
            if weight is not None:
                copies.append((variable, weight))
                # Equal weights have copies in the same order.
                weights = [w for w in weights if w is not weight]
    return copies


def renewed(copies: Iterable[Copy]) -> Iterator[Update]:
    """Yields the update of each variable to the other one's present values."""
    for variable, other in copies:
        yield variable, known_values(other)


def new_state(model: keras.Model | keras.layers.Layer) -> Iterator[Update]:
    """Yields the updates that make all optimizers new.

    Their state may depend on the weights at the moment when it is asked for.
    """
    for optimizer in optimizers_of(model):
        if optimizer.built:
            yield from _new_state(optimizer, model)


def _new_state(
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model | keras.layers.Layer,
) -> Iterator[Update]:
    # The model's own optimizer may train only some of its layers.
    for layer in walk(model):
        # The config holds the current learning rate, so the clone keeps it.
        clone = type(optimizer).from_config(optimizer.get_config())
        clone.build(layer.trainable_variables)
        if [v.shape for v in clone.variables] == [
            v.shape for v in optimizer.variables
        ]:
            pairs = zip(optimizer.variables, clone.variables, strict=True)
            yield from renewed(pairs)
            return
    raise ValueError(
        "An optimizer must have been built for the trainable weights of the "
        "model, or of one layer in it, for its state to be reset. Received: "
        f"optimizer={optimizer.name!r} with {len(optimizer.variables)} "
        "variables, which fit neither. Compile the model again"
    )


def _steps(optimizer: keras.optimizers.Optimizer) -> int:
    return int(ops.convert_to_numpy(optimizer.iterations))


def _is_copy(variable: keras.Variable, weight: keras.Variable) -> bool:
    return (
        variable.shape == weight.shape
        and variable.dtype == weight.dtype
        and _holds(ops.all(ops.equal(variable, weight)))
    )


def _holds(condition: Tensor) -> bool:
    return bool(concrete_values(condition))
