"""What both initializers are: a base, completed, cloned and serialized.

Keras asks more of an initializer than to fill a tensor. This is where that is
answered, apart from what is done to the kernel.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.layouts import Layout, check_axes, kernel_layout
from keras_parewire.rewiring.seeding import Seed, check_seed, keep_random_state
from keras_parewire.rewiring.validation import (
    Tensor,
    as_tensor,
    check_finite,
    check_float,
)


# `EinsumDense`, and so the attention layers, hands its axes to instances of
# `VarianceScaling` only, as `from_config` of the initializer's config, its seed
# and the axes. Nothing else of that class is used here.
class InitializerWrapper(keras.initializers.VarianceScaling):
    """An initializer that organises the weights of a base initializer."""

    def __init__(
        self,
        base: Any,
        input_axes: Sequence[int] | None,
        output_axes: Sequence[int] | None,
        seed: Seed,
    ) -> None:
        axes = check_axes(input_axes, output_axes)
        seed = check_seed(seed)
        with keep_random_state() if seed is not None else nullcontext():
            self.base = get_base(base)
        if isinstance(self.base, np.ndarray):
            kernel_layout(self.base.shape, *axes)
            check_finite(self.base)
        # Without a seed of its own it takes the base's, so that it draws no
        # more seeds than the base alone: runs with and without us stay paired.
        super().__init__(
            seed=_own_seed(self.base) if seed is None else seed,
            input_axes=axes[0],
            output_axes=axes[1],
        )
        self._given_seed = seed
        self._complete_base = self._complete()

    def _complete(self) -> Any:
        """The base, told what it was not: its seed and its axes."""
        unseeded = (
            has_seed(self.base) and self.base.get_config()["seed"] is None
        )
        seed = self.seed if unseeded and self._given_seed is not None else None
        return with_seed_and_axes(
            self.base, seed, self.input_axes, self.output_axes
        )

    def _layout(self, shape: Sequence[int]) -> Layout:
        return kernel_layout(shape, self.input_axes, self.output_axes)

    def get_config(self) -> dict[str, Any]:
        return {
            "base": keras.saving.serialize_keras_object(self.base),
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
            "seed": keras.saving.serialize_keras_object(self._given_seed),
        }


def with_seed_and_axes(
    base: Any,
    seed: Seed,
    input_axes: list[int] | None,
    output_axes: list[int] | None,
) -> Any:
    """Re-creates a base with a seed, and with axes if it lacks them.

    Without either, and if the base knows no such things, it is as it was.
    """
    changes: dict[str, Any] = {}
    if seed is not None and has_seed(base):
        changes["seed"] = seed
    if (
        input_axes is not None
        and isinstance(base, keras.initializers.VarianceScaling)
        and (base.input_axes is None or base.output_axes is None)
    ):
        changes = {
            "seed": base.seed,
            **changes,
            "input_axes": input_axes,
            "output_axes": output_axes,
        }
    return replace(base, **changes) if changes else base


def draw_from_base(
    base: Any, shape: Sequence[int], dtype: str | None
) -> Tensor:
    """Draws from a base, with what Keras leaves unchecked checked."""
    if dtype is not None:
        check_float(dtype)
    if isinstance(base, np.ndarray):
        values, dtype = base, dtype or keras.config.floatx()
    else:
        values, dtype = base(shape, dtype=dtype), None
    drawn = as_tensor(values, "base(shape)", dtype)
    if tuple(drawn.shape) != tuple(shape):
        raise ValueError(
            "`base` must give a tensor of the kernel's shape. Received: "
            f"a tensor of shape {tuple(drawn.shape)} for shape={shape}"
        )
    check_float(drawn.dtype)
    return drawn


# What Keras serializes that is no class; `initializers.get` cannot read it.
_NO_CLASSES = ("function", "__lambda__", "__numpy__", "__tensor__")


def get_base(base: Any) -> Any:
    """The base as a callable, or as an array of its values."""
    given = base
    if isinstance(base, dict) and base.get("class_name") in _NO_CLASSES:
        base = keras.saving.deserialize_keras_object(base)
    if ops.is_tensor(base) or isinstance(
        base, np.ndarray | np.generic | keras.Variable
    ):
        # Keras would hide the values in a closure that it cannot serialize.
        values = ops.convert_to_numpy(base)
        if not np.isrealobj(values):
            raise ValueError(
                f"`base` must hold real numbers. Received: dtype={values.dtype}"
            )
        return values
    try:
        base = keras.initializers.get(base)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`base` must be something `keras.initializers.get` can interpret, "
            f"an array or a tensor. Received: base={given!r}"
        ) from error
    if base is None or isinstance(base, keras.layers.Layer):
        raise ValueError(
            f"`base` must be an initializer. Received: base={given!r}"
        )
    return base


def _own_seed(base: Any) -> Seed:
    """The seed of a base, as far as Keras would know it for one."""
    seed = getattr(base, "seed", None)
    return seed if isinstance(seed, int | keras.random.SeedGenerator) else None


def replace(base: Any, **changes: Any) -> Any:
    """Re-creates an initializer with some of its config changed."""
    return base.__class__.from_config({**base.get_config(), **changes})


def has_seed(base: Any) -> bool:
    """Whether a base can be re-created with another seed."""
    return (
        isinstance(base, keras.initializers.Initializer)
        and hasattr(base, "seed")
        and "seed" in base.get_config()
    )
