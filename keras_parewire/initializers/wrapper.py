"""The common part of the initializers that wrap a base initializer.

Keras asks more of an initializer than filling a tensor: seeds, axes, clones and
configs. This module and `bases.py` handle all of that; the subclasses only
handle the kernel.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_parewire.initializers.bases import (
    Base,
    Kernel,
    draw_tensor,
    reseeded,
    resolve_base,
    serialize_base,
    with_axes,
)
from keras_parewire.initializers.sharding import placed
from keras_parewire.rewiring.matrix_view import (
    Axes,
    MatrixView,
    check_axes,
    matrix_view,
)
from keras_parewire.rewiring.seeding import Seed, check_seed, seed_without_draw
from keras_parewire.rewiring.validation import as_integer
from keras_parewire.rewiring.values import Tensor


# `EinsumDense`, and with it the attention layers, passes its axes only to
# instances of `VarianceScaling`: through `from_config`, with the initializer's
# config, its seed and the axes. Of that class nothing else is used.
class InitializerWrapper(keras.initializers.VarianceScaling):
    """An initializer that transforms what a base initializer draws."""

    # How to read the kernel, if a layer's axes say more than `input_axes`.
    _view: MatrixView | None = None

    def __init__(
        self, base: Any, input_axes: Axes, output_axes: Axes, seed: Seed
    ) -> None:
        axes = check_axes(input_axes, output_axes)
        seed = check_seed(seed)
        self.base, self._unseeded = resolve_base(base, seed)
        super().__init__(
            seed=self._default_seed() if seed is None else seed,
            input_axes=axes[0],
            output_axes=axes[1],
        )
        self._given_seed = seed
        # The seed that the base draws with, which differs from `seed` if the
        # base was made before, or `seed` is set later.
        self._base_seed: Any = self.seed
        if seed is not None:
            self._base_seed = getattr(self.base, "seed", None)

    def __call__(
        self,
        shape: Sequence[int],
        dtype: str | None = None,
        layout: Any = None,
    ) -> Tensor:
        view = self._view or matrix_view(
            shape, self.input_axes, self.output_axes
        )
        base = self._complete_base()
        # Shape inference throws the values away.
        if _infers_shapes() or 0 in view.kernel_shape:
            return placed(lambda: draw_tensor(base, shape, dtype), layout)
        return placed(lambda: self._transformed(base, view, dtype), layout)

    def _transformed(
        self, base: Base, view: MatrixView, dtype: str | None
    ) -> Kernel:
        """Draws a kernel from a base and transforms it."""
        raise NotImplementedError

    def with_view(self, view: MatrixView, *axes: Sequence[int] | None) -> Self:
        """Returns a copy for one kernel; a base counts fans along the axes."""
        viewing = copy.copy(self)
        viewing._view = view
        viewing.input_axes, viewing.output_axes = axes
        if isinstance(self.base, InitializerWrapper):
            viewing.base = self.base.with_view(view, *axes)
        return viewing

    def _default_seed(self) -> int | keras.random.SeedGenerator:
        """The seed of an initializer that is not given one.

        The wrapper never draws a seed, so that a program draws the same seeds
        with and without it.
        """
        seed = getattr(self.base, "seed", None)
        if isinstance(seed, keras.random.SeedGenerator):
            return seed
        number = as_integer(seed)
        return seed_without_draw() if number is None else number

    def _complete_base(self) -> Base:
        """The base, with the seed and the axes that it lacks."""
        base = self.base
        if self._unseeded and self.seed is not self._base_seed:
            base = reseeded(base, self.seed)
        return with_axes(base, self.input_axes, self.output_axes)

    def get_config(self) -> dict[str, Any]:
        return {
            "base": serialize_base(self.base, self._unseeded),
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
            "seed": keras.saving.serialize_keras_object(self._given_seed),
        }


def _infers_shapes() -> bool:
    with keras.SymbolicScope() as scope:
        return scope.original_scope is not None
