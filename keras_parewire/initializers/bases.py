"""Bases: what an initializer can wrap, and how to draw from it and save it."""

import copy
import difflib
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.seeding import Seed
from keras_parewire.rewiring.validation import check_float
from keras_parewire.rewiring.values import (
    Tensor,
    as_tensor,
    check_finite,
    values_or_none,
)

# An initializer or another callable. Keras has no type for these.
Base: TypeAlias = Any

# An array if its values are known, and a tensor if it is being traced.
Kernel: TypeAlias = Tensor | np.ndarray

InitializerLike: TypeAlias = (
    str
    | dict[str, Any]
    | keras.initializers.Initializer
    | type
    | Callable[..., Tensor]
)


class Resolved(NamedTuple):
    """A base as a callable, and whether it was given without a seed."""

    base: Base
    unseeded: bool


# The last config of a base that a thread made, and that base. Keras clones
# initializers in `EinsumDense`, the attention layers and `clone()`: by
# `from_config` from what `get_config` has just returned. Its plain types could
# not restore a function, an instance of an unregistered class, or a generator
# that others share.
_last = threading.local()


def resolve_base(base: Any, seed: Seed, name: str = "base") -> Resolved:
    """Returns the base as a callable, and whether it was given unseeded.

    A base that is made here from a name, a class or a config gets the `seed`,
    if there is one, and draws none from Python's global random state. Errors
    call the argument by its `name`.
    """
    made = getattr(_last, "made", None)
    if made is not None and base is made[0]:
        original, unseeded = made[1]
        unchanged = base == serialize_base(original, unseeded)
        if unchanged and unseeded:
            # A clone of an unseeded initializer gets a seed of its own.
            original = reseeded(original, seed)
        _last.made = made
        if unchanged:
            return Resolved(original, unseeded)
    if isinstance(base, dict) and base.get("class_name") == "__lambda__":
        # Keras refuses it unless safe mode is off.
        return Resolved(keras.saving.deserialize_keras_object(base), False)
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
        initializer = _make_base(base, seed)
        if isinstance(initializer, keras.layers.Layer):
            raise TypeError("A layer is callable, but not with a shape.")
        # Raises a TypeError for what is not callable, too.
        inspect.signature(initializer).bind((2, 2), dtype="float32")
    except (TypeError, ValueError, KeyError) as error:
        known, near = dir(keras.initializers), []
        if base not in known:
            near = difflib.get_close_matches(str(base), known, 1)
        raise ValueError(
            f"`{name}` must be something that `keras.initializers.get` can "
            "interpret: callable with a shape and a dtype. A function or a "
            "class that a saved model names must be registered with "
            "`keras.saving.register_keras_serializable`. "
            f"Received: {name}={base!r}"
            + "".join(f"; did you mean {known!r}?" for known in near)
        ) from error
    seeded_here = seed is not None and isinstance(base, str | dict | type)
    unseeded = has_seed(initializer) and (
        initializer.get_config()["seed"] is None
        or (seeded_here and _given_seed(base) is None)
    )
    return Resolved(initializer, unseeded)


def serialize_base(base: Base, unseeded: bool) -> Any:
    """Returns a config of plain types that `resolve_base` reads."""
    if inspect.isfunction(base) and base.__name__ == "<lambda>":
        # Keras warns when it serializes a lambda. It should do so when a model
        # is saved, but not when a layer is built.
        return base
    config = keras.saving.serialize_keras_object(base)
    if unseeded:
        config["config"]["seed"] = None
    _last.made = config, Resolved(base, unseeded)
    return config


def draw_from_base(
    base: Base, shape: Sequence[int], dtype: str | None
) -> Kernel:
    """Draws a kernel and checks what Keras does not check."""
    drawn = draw_tensor(base, shape, dtype)
    values = values_or_none(drawn)
    if values is None:
        return drawn
    check_finite(values, f"a draw of {base!r}")
    return values


def draw_tensor(base: Base, shape: Sequence[int], dtype: str | None) -> Tensor:
    """Draws a kernel whose values are not looked at."""
    if dtype is not None:
        check_float(dtype)
    drawn = as_tensor(base(shape, dtype=dtype), "initializer(shape)")
    if tuple(drawn.shape) != tuple(shape):
        raise ValueError(
            "An initializer must return a tensor of the kernel's shape. "
            f"Received: initializer={base!r}, which returns a tensor of shape "
            f"{tuple(drawn.shape)} for shape={shape}"
        )
    check_float(drawn.dtype)
    # Functions of NumPy may return float64 whatever the dtype.
    return drawn if dtype is None else ops.cast(drawn, dtype)


def has_seed(base: Any) -> bool:
    """Returns whether a base can be re-created with another seed."""
    return (
        isinstance(base, keras.initializers.Initializer)
        and hasattr(base, "seed")
        and "seed" in base.get_config()
    )


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
        # Since version 3.16, Keras looks up bare names only among its own.
        base = keras.saving.get_registered_object(base) or {
            "class_name": base,
            "config": {},
        }
    make: Any = base
    if seed is not None and _given_seed(base) is None:
        try:
            if isinstance(base, dict):
                config = {**(base.get("config") or {}), "seed": seed}
                return keras.initializers.get({**base, "config": config})
            if inspect.isclass(base):
                return make(seed=seed)
        except (TypeError, ValueError):
            pass  # It takes no seed, or is wrong in another way.
    return keras.initializers.get(base)
