"""The common part of the initializers that wrap a base initializer.

Keras asks more of an initializer than filling a tensor: seeds, axes, clones and
configs. This module and `bases.py` handle all of that; the subclasses only
handle the kernel.
"""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_parewire.initializers.bases import (
    Base,
    is_unseeded,
    replace,
    resolve_base,
    serialize_base,
    with_axes,
)
from keras_parewire.rewiring.layouts import (
    Axes,
    Layout,
    check_axes,
    kernel_layout,
)
from keras_parewire.rewiring.seeding import Seed, check_seed, seed_without_draw
from keras_parewire.rewiring.validation import as_integer, check_finite


# `EinsumDense`, and with it the attention layers, passes its axes only to
# instances of `VarianceScaling`: through `from_config`, with the initializer's
# config, its seed and the axes. Nothing else of that class is used here.
class InitializerWrapper(keras.initializers.VarianceScaling):
    """An initializer that organizes the weights of a base initializer."""

    def __init__(
        self, base: Any, input_axes: Axes, output_axes: Axes, seed: Seed
    ) -> None:
        axes = check_axes(input_axes, output_axes)
        seed = check_seed(seed)
        self._resolved = resolve_base(base, seed)
        if isinstance(self.base, np.ndarray):
            kernel_layout(self.base.shape, *axes)
            check_finite(self.base, "base")
        super().__init__(
            seed=self._base_seed() if seed is None else seed,
            input_axes=axes[0],
            output_axes=axes[1],
        )
        # They would not describe the base.
        del self.scale, self.mode, self.distribution
        self._given_seed = seed
        self._complete_base = self._complete()

    @property
    def base(self) -> Base:
        """The wrapped initializer, or an array of values."""
        return self._resolved.base

    def _base_seed(self) -> int | keras.random.SeedGenerator:
        """The seed of an initializer that is not given one.

        The wrapper never draws a seed, so that a program draws the same seeds
        with and without it.
        """
        seed = getattr(self.base, "seed", None)
        if isinstance(seed, keras.random.SeedGenerator):
            return seed
        number = as_integer(seed)
        return seed_without_draw() if number is None else number

    def _complete(self) -> Base:
        """The base, completed with the seed and the axes that it lacks."""
        base = self.base
        if self._given_seed is not None and is_unseeded(base):
            base = replace(base, seed=self.seed)
        return with_axes(base, self.input_axes, self.output_axes)

    def _kernel_layout(self, shape: Sequence[int]) -> Layout:
        return kernel_layout(shape, self.input_axes, self.output_axes)

    def get_config(self) -> dict[str, Any]:
        return {
            "base": serialize_base(self._resolved),
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
            "seed": keras.saving.serialize_keras_object(self._given_seed),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)
