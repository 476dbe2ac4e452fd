"""New weights for a whole model, drawn by its own initializers."""

import random
from typing import Any

import numpy as np
from keras import ops

from keras_parewire.models.weights import (
    OwnedWeight,
    Selection,
    assign_all,
    owned_weights,
    selector,
)
from keras_parewire.rewiring.seeding import (
    Seed,
    Stream,
    check_seed,
    integer_seed,
    keep_random_state,
)


def reinitialize(
    model: Any, *, seed: Seed = None, layers: Selection = None
) -> None:
    """Draws every weight of a built model anew from its own initializer.

    It does so in place, as if the model had just been built: kernels, biases,
    normalization statistics and all others. Compiled functions stay compiled
    and see the new weights at once. A compiled optimizer forgets its state (its
    step count and slots, not its learning rate), so that the next `fit` is the
    training of a new model. Layers with an `adapt` method keep what they
    have measured, and random layers such as dropout their seeds' states. After
    an error nothing has changed.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> ensemble = []
    >>> for member in range(3):
    ...     reinitialize(model, seed=member)
    ...     ensemble.append(model.get_weights())  # After `model.fit`.

    Args:
        model: Built Keras model or layer.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw. It takes the place of all seeds that the initializers were
            given; each layer's own is derived from it, see `rewire_model`.
            Only functions that draw from elsewhere are beyond its reach.
        layers: Which layers; see `rewire_model`. The optimizer keeps its state
            if they are not all.

    Raises:
        ValueError: If the model has not been built, a layer is quantized or
            cannot be re-created from its config, nor can one that holds it.
        TypeError: If an argument is of the wrong type.
    """
    seed = check_seed(seed)
    weights = owned_weights(model)
    chosen = selector(model, layers)
    number = integer_seed(seed)
    owned: dict[int, list[OwnedWeight]] = {}
    for weight in weights:
        owned.setdefault(id(weight.chain[0]), []).append(weight)
    updates: list[tuple[Any, np.ndarray]] = []
    drawn: dict[int, dict[int, np.ndarray]] = {}
    for group in owned.values():
        wanted = [weight for weight in group if chosen(weight)[0]]
        chain = group[0].chain
        # What was measured is no draw.
        if wanted and not hasattr(chain[0], "adapt"):
            _check_not_quantized(chain[0])
            own = _draw_again(
                chain, group[0].seed(number, Stream.REINITIALIZATION), drawn
            )
            updates += [(w.variable, own[id(w.variable)]) for w in wanted]
    if layers is None:
        updates += _new_optimizer_state(model)
    assign_all(updates)


def _draw_again(
    chain: tuple[Any, ...], seed: int, drawn: dict[int, dict[int, np.ndarray]]
) -> dict[int, np.ndarray]:
    """Returns new values of a layer's weights, by the variables' ids.

    Some layers cannot be made from their config, but can as part of the layer
    around them, whose weights are drawn with them then.

    Args:
        chain: The layer, the one that holds it, and so on.
        seed: Of the draw.
        drawn: What has been drawn by the layers' ids, to be added to.
    """
    errors = []
    for layer in chain:
        try:
            if id(layer) not in drawn:
                drawn[id(layer)] = _recreate(layer, seed)
            return drawn[id(layer)]
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _recreate(layer: Any, seed: int) -> dict[int, np.ndarray]:
    """Makes a layer once more, with other seeds, for its weights' values."""
    try:
        with keep_random_state():
            # Keras draws the seeds of unseeded initializers there, whichever
            # they are and wherever in the layer they sit.
            random.seed(seed)
            clone = type(layer).from_config(_with_new_seeds(layer.get_config()))
            clone.build_from_config(layer.get_build_config())
    except Exception as error:
        raise ValueError(
            "A layer must be able to be re-created from its config to be "
            f"reinitialized. Received: a layer {layer.name!r} of type "
            f"{type(layer).__name__}, which raises {error}"
        ) from error
    pairs = list(zip(layer.weights, clone.weights, strict=False))
    if len(clone.weights) != len(layer.weights) or any(
        (old.name, old.shape) != (new.name, new.shape) for old, new in pairs
    ):
        raise ValueError(
            "A layer must have the same weights when it is re-created from its "
            f"config, to be reinitialized. Received: a layer {layer.name!r} of "
            f"type {type(layer).__name__} with weights "
            f"{[v.name for v in layer.weights]} that has then "
            f"{[v.name for v in clone.weights]}. Sublayers must be built in "
            "the layer's `build`"
        )
    return {id(old): ops.convert_to_numpy(new) for old, new in pairs}


def _with_new_seeds(config: Any) -> Any:
    """A config with another number for each seed in it.

    What has none, Keras gives one when it is made.
    """
    if isinstance(config, dict):
        return {
            key: random.randint(1, 10**9)
            if key == "seed" and isinstance(value, int)
            else _with_new_seeds(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_with_new_seeds(value) for value in config)
    return config


def _check_not_quantized(layer: Any) -> None:
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            "A layer must not be quantized to be reinitialized: its weights "
            f"come from others. Received: a layer {layer.name!r} with "
            f"quantization_mode={mode!r}"
        )


def _new_optimizer_state(model: Any) -> list[tuple[Any, np.ndarray]]:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    # Its config holds the learning rate of now, which is kept so.
    clone = type(optimizer).from_config(optimizer.get_config())
    clone.build(model.trainable_variables)
    if len(clone.variables) != len(optimizer.variables):
        raise ValueError(
            "The optimizer must be the one that `compile` was given for the "
            "weights that are trainable now. Received: an optimizer with "
            f"{len(optimizer.variables)} variables, where a new one has "
            f"{len(clone.variables)}. Compile the model anew"
        )
    return [
        (old, ops.convert_to_numpy(new))
        for old, new in zip(optimizer.variables, clone.variables, strict=True)
    ]
