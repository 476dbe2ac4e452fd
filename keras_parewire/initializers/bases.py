"""Bases: what an initializer can wrap, and how to draw from it and save it."""

import base64
import binascii
import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.seeding import Seed
from keras_parewire.rewiring.validation import (
    Tensor,
    as_tensor,
    check_float,
    is_real_dtype,
)

# An initializer, another callable, or an array. Keras has no type for these.
Base: TypeAlias = Any

InitializerLike: TypeAlias = (
    str
    | dict[str, Any]
    | keras.initializers.Initializer
    | type
    | Callable[..., Tensor]
    | Tensor
)

_ARRAY_DTYPES = ("float16", "float32", "float64")
# How Keras itself serializes an array, as versions before 0.1 did.
_KERAS_ARRAYS = ("__numpy__", "__tensor__")


class ResolvedBase(NamedTuple):
    """A base, and whether it came unseeded and got its seed here."""

    base: Base
    seeded_here: bool = False


class BaseConfig(dict[str, Any]):
    """A serialized base that remembers the base it was made from.

    Keras clones initializers through their configs in `EinsumDense`, the
    attention layers and `clone()`. A plain config could not restore a function
    or an instance of an unregistered class, and would copy an array.
    """

    def __init__(self, config: dict[str, Any], resolved: ResolvedBase) -> None:
        super().__init__(config)
        self.resolved = resolved


def resolve_base(base: Any, seed: Seed) -> ResolvedBase:
    """Returns the base as a callable, or as an array of its values.

    A base that is made here from a name, a class or a config gets the `seed`,
    if there is one. Unseeded, it would draw a seed from Python's global random
    state, which a seeded base does not do without this package either.
    """
    if isinstance(base, BaseConfig):
        resolved = base.resolved
        if seed is None and is_unseeded(resolved.base):
            # A clone of an unseeded initializer gets a seed of its own.
            return ResolvedBase(resolved.base.clone())
        if resolved.seeded_here:
            base = replace(resolved.base, seed=seed)
            return ResolvedBase(base, seed is not None)
        return resolved
    if isinstance(base, dict):
        if base.get("class_name") == "__lambda__":
            # Keras refuses it unless it is told to trust the source.
            return ResolvedBase(keras.saving.deserialize_keras_object(base))
        if _is_array_config(base):
            base = _array_from_config(base)
    if ops.is_tensor(base) or isinstance(
        base, np.ndarray | np.generic | keras.Variable
    ):
        # Keras would hide the values in a closure that it cannot serialize.
        return ResolvedBase(_float_array(base))
    try:
        resolved = _make_base(base, seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`base` must be something that `keras.initializers.get` can "
            "interpret, an array or a tensor. A function or a class that a "
            "saved model names must be registered with "
            "`keras.saving.register_keras_serializable`. "
            f"Received: base={base!r}"
        ) from error
    if not _is_initializer(resolved.base):
        raise ValueError(
            "`base` must be an initializer: callable with a shape and a dtype. "
            f"Received: base={base!r}"
        )
    return resolved


def serialize_base(resolved: ResolvedBase) -> Any:
    """Returns a config that JSON can hold and `resolve_base` reads."""
    base = resolved.base
    if isinstance(base, np.ndarray):
        encoded = base64.b64encode(np.ascontiguousarray(base).tobytes())
        config: Any = {
            "array": encoded.decode(),
            "dtype": base.dtype.name,
            "shape": list(base.shape),
        }
    elif inspect.isfunction(base) and base.__name__ == "<lambda>":
        # Keras warns when it serializes a lambda. It should do so when a model
        # is saved, but not when a layer is built.
        return base
    else:
        config = keras.saving.serialize_keras_object(base)
    if resolved.seeded_here:
        config["config"]["seed"] = None
    return BaseConfig(config, resolved)


def draw_from_base(
    base: Base, shape: Sequence[int], dtype: str | None
) -> Tensor:
    """Draws a kernel and checks what Keras does not check."""
    if dtype is not None and _is_standard(dtype):
        check_float(dtype)
    if isinstance(base, np.ndarray):
        values, dtype = base, dtype or keras.config.floatx()
    else:
        values, dtype = base(shape, dtype=dtype), None
    drawn = as_tensor(values, "base(shape)", dtype)
    if tuple(drawn.shape) != tuple(shape):
        raise ValueError(
            "`base` must return a tensor of the kernel's shape. Received: "
            f"a tensor of shape {tuple(drawn.shape)} for shape={shape}"
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


def replace(base: Any, /, **changes: Any) -> Any:
    """Re-creates an initializer with some entries of its config changed."""
    return base.__class__.from_config({**base.get_config(), **changes})


def reseeded(base: Base, seed: Seed) -> Base:
    """Re-creates a base with another seed, together with the base inside it.

    Returns a base without a seed as it is.
    """
    if not has_seed(base):
        return base
    changes = {"seed": seed}
    inner = base.get_config().get("base")
    if isinstance(inner, BaseConfig) and has_seed(inner.resolved.base):
        resolved = ResolvedBase(reseeded(inner.resolved.base, seed))
        changes["base"] = serialize_base(resolved)
    return replace(base, **changes)


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
    axes = {"input_axes": input_axes, "output_axes": output_axes}
    try:
        return replace(base, seed=base.seed, **axes)
    except TypeError:
        # A subclass whose constructor does not take axes.
        base = copy.copy(base)
        base.input_axes, base.output_axes = input_axes, output_axes
        return base


def _make_base(base: Any, seed: Seed) -> ResolvedBase:
    if isinstance(base, str):
        base = _config_of_name(base)
    if isinstance(base, dict):
        if base.get("class_name") == "function":
            return ResolvedBase(_registered_function(base))
        inner = base.get("config") or {}
        if seed is not None and inner.get("seed") is None:
            try:
                seeded = {**base, "config": {**inner, "seed": seed}}
                return ResolvedBase(keras.initializers.get(seeded), True)
            except (TypeError, ValueError):
                pass  # It takes no seed, or is wrong in another way.
    elif seed is not None and inspect.isclass(base):
        make: Any = base
        try:
            return ResolvedBase(make(seed=seed), True)
        except TypeError:
            pass
    return ResolvedBase(keras.initializers.get(base))


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


def _is_array_config(config: dict[str, Any]) -> bool:
    return "array" in config or config.get("class_name") in _KERAS_ARRAYS


def _array_from_config(config: dict[str, Any]) -> np.ndarray:
    # A config must not cause allocations beyond its own size.
    keras_form = "array" not in config
    values = config["config"] if keras_form else config
    try:
        dtype = values["dtype"]
        if keras_form and dtype in (*_ARRAY_DTYPES, "bfloat16"):
            return np.array(values["value"], np.float64).astype(
                "float32" if dtype == "bfloat16" else dtype
            )
        shape = tuple(values["shape"])
        data = base64.b64decode(values["array"], validate=True)
        if (
            dtype in _ARRAY_DTYPES
            and min(shape, default=1) >= 0
            and math.prod(shape) * np.dtype(dtype).itemsize == len(data)
        ):
            return np.frombuffer(data, dtype).reshape(shape)
    except (KeyError, TypeError, ValueError, binascii.Error):
        pass
    raise ValueError(
        "The config of an array must have a dtype among "
        f"{_ARRAY_DTYPES}, and a shape that fits its data. "
        f"Received: base={str(config)[:200]}"
    )


def _float_array(base: Any) -> np.ndarray:
    values: np.ndarray = ops.convert_to_numpy(base)
    try:
        dtype = keras.backend.standardize_dtype(values.dtype)
        is_float = keras.backend.is_float_dtype(dtype)
        is_real = is_real_dtype(dtype)
    except ValueError:  # Objects, for example.
        is_real = False
    if not is_real:
        raise ValueError(
            f"`base` must hold real numbers. Received: dtype={values.dtype}"
        )
    if values.dtype.name in _ARRAY_DTYPES:
        return values
    return values.astype("float32" if is_float else "float64")
