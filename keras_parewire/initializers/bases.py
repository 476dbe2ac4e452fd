"""Bases: what an initializer can wrap, and how to draw from it and save it."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.seeding import Seed
from keras_parewire.rewiring.validation import check_float
from keras_parewire.rewiring.values import Tensor, as_tensor

# An initializer or another callable. Keras has no type for these.
Base: TypeAlias = Any

InitializerLike: TypeAlias = (
    str
    | dict[str, Any]
    | keras.initializers.Initializer
    | type
    | Callable[..., Tensor]
)


class BaseConfig(dict[str, Any]):
    """A serialized base that remembers the base it was made from.

    Keras clones initializers through their configs in `EinsumDense`, the
    attention layers and `clone()`. A plain config could not restore a function
    or an instance of an unregistered class.

    Attributes:
        base: The base.
        unseeded: Whether it was given without a seed of its own.
    """

    def __init__(
        self, config: dict[str, Any], base: Base, unseeded: bool
    ) -> None:
        super().__init__(config)
        self.base, self.unseeded = base, unseeded


def resolve_base(
    base: Any, seed: Seed, name: str = "base"
) -> tuple[Base, bool]:
    """Returns the base as a callable, and whether it was given unseeded.

    A base that is made here from a name, a class or a config gets the `seed`,
    if there is one. Unseeded, it would draw a seed from Python's global random
    state, which a seeded base does not do without this package either. Errors
    call the argument by its `name`.
    """
    if isinstance(base, BaseConfig):
        if base.unseeded:
            # A clone of an unseeded initializer gets a seed of its own.
            return reseeded(base.base, seed), True
        return base.base, False
    if isinstance(base, dict) and base.get("class_name") == "__lambda__":
        # Keras refuses it unless safe mode is off.
        return keras.saving.deserialize_keras_object(base), False
    if ops.is_tensor(base) or isinstance(
        base, np.ndarray | np.generic | keras.Variable
    ):
        raise TypeError(
            f"`{name}` must be an initializer. To rewire values that exist, "
            "call `keras_parewire.rewire(values)`, and assign the result or "
            f"pass it in a `Constant`. Received: {name}={type(base).__name__} "
            f"of shape {tuple(base.shape)}"
        )
    try:
        made = _make_base(base, seed)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"`{name}` must be something that `keras.initializers.get` can "
            "interpret. A function or a class that a saved model names must be "
            "registered with `keras.saving.register_keras_serializable`. "
            f"Received: {name}={base!r}"
        ) from error
    if not _is_initializer(made):
        raise ValueError(
            f"`{name}` must be an initializer: callable with a shape and a "
            f"dtype. Received: {name}={base!r}"
        )
    seeded_here = (
        seed is not None
        and isinstance(base, str | dict | type)
        and _given_seed(base) is None
        and has_seed(made)
    )
    return made, seeded_here or is_unseeded(made)


def serialize_base(base: Base, unseeded: bool) -> Any:
    """Returns a config that JSON can hold and `resolve_base` reads."""
    if inspect.isfunction(base) and base.__name__ == "<lambda>":
        # Keras warns when it serializes a lambda. It should do so when a model
        # is saved, but not when a layer is built.
        return base
    config = keras.saving.serialize_keras_object(base)
    if unseeded:
        config["config"]["seed"] = None
    return BaseConfig(config, base, unseeded)


def draw_from_base(
    base: Base, shape: Sequence[int], dtype: str | None
) -> Tensor:
    """Draws a kernel and checks what Keras does not check."""
    if dtype is not None and _is_standard(dtype):
        check_float(dtype)
    drawn = as_tensor(base(shape, dtype=dtype), "initializer(shape)")
    if tuple(drawn.shape) != tuple(shape):
        raise ValueError(
            "An initializer must return a tensor of the kernel's shape. "
            f"Received: initializer={base!r}, which returns a tensor of shape "
            f"{tuple(drawn.shape)} for shape={shape}"
        )
    check_float(drawn.dtype)
    return drawn


def _is_standard(dtype: Any) -> bool:
    try:
        keras.backend.standardize_dtype(dtype)
    except ValueError:
        return False  # A name that the backend may know, such as "float".
    return True


def has_seed(base: Any) -> bool:
    """Returns whether a base can be re-created with another seed."""
    return (
        isinstance(base, keras.initializers.Initializer)
        and hasattr(base, "seed")
        and "seed" in base.get_config()
    )


def is_unseeded(base: Any) -> bool:
    """Returns whether a base takes a seed but was given none."""
    return has_seed(base) and base.get_config()["seed"] is None


def reseeded(base: Base, seed: Any) -> Base:
    """Re-creates a base with another seed; a base without one stays."""
    if not has_seed(base):
        return base
    if seed is None or isinstance(seed, int | keras.random.SeedGenerator):
        return type(base).from_config({**base.get_config(), "seed": seed})
    # A key of JAX: constructors refuse it, but draws take it.
    base = copy.copy(base)
    base.seed = seed
    return base


def with_axes(
    base: Base,
    input_axes: Sequence[int] | None,
    output_axes: Sequence[int] | None,
) -> Base:
    """Re-creates a base with axes if it has use for them and lacks them."""
    if (
        input_axes is None
        or not isinstance(base, keras.initializers.VarianceScaling)
        or not (base.input_axes is None or base.output_axes is None)
    ):
        return base
    # Not every subclass takes axes in its constructor, and a copy keeps the
    # seed, drawn or given.
    base = copy.copy(base)
    base.input_axes, base.output_axes = input_axes, output_axes
    return base


def _given_seed(base: Any) -> Any:
    config = base.get("config") if isinstance(base, dict) else None
    return config.get("seed") if isinstance(config, dict) else None


def _make_base(base: Any, seed: Seed) -> Base:
    if isinstance(base, str):
        base = _config_of_name(base)
    if isinstance(base, dict):
        if base.get("class_name") == "function":
            return _registered_function(base)
        inner = base.get("config") or {}
        if seed is not None and _given_seed(base) is None:
            try:
                seeded = {**base, "config": {**inner, "seed": seed}}
                return keras.initializers.get(seeded)
            except (TypeError, ValueError):
                pass  # It takes no seed, or is wrong in another way.
    elif seed is not None and inspect.isclass(base):
        make: Any = base
        try:
            return make(seed=seed)
        except TypeError:
            pass
    return keras.initializers.get(base)


def _config_of_name(name: str) -> dict[str, Any]:
    config = {"class_name": name, "config": {}}
    registered = keras.saving.get_registered_object(name)
    if inspect.isclass(registered):
        # Since version 3.16, Keras looks up bare names only among its own.
        config["class_name"] = registered.__name__
        config["module"] = registered.__module__
        config["registered_name"] = name
    return config


def _registered_function(config: dict[str, Any]) -> Callable[..., Tensor]:
    # Keras would accept any of its own public functions as an initializer.
    for name in (config.get("registered_name"), config.get("config")):
        function = isinstance(name, str) and keras.saving.get_registered_object(
            name
        )
        if inspect.isfunction(function):
            return function
    raise ValueError("The function is not registered.")


def _is_initializer(base: Any) -> bool:
    if isinstance(base, keras.initializers.Initializer):
        return True
    if not callable(base) or isinstance(
        base, keras.layers.Layer | keras.metrics.Metric | keras.losses.Loss
    ):
        return False
    try:
        inspect.signature(base).bind((2, 2), dtype="float32")
    except TypeError:
        return False
    except ValueError:
        pass  # It has no signature to inspect.
    return True
