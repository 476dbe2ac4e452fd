"""Rewiring of a single kernel of a model."""

from typing import NamedTuple

import keras
import numpy as np

from keras_parewire.initializers.bases import (
    Base,
    draw_from_base,
    has_seed,
    reseeded,
    with_axes,
)
from keras_parewire.models.layer_axes import einsum_axes
from keras_parewire.models.weights import OwnedWeight
from keras_parewire.rewiring.layouts import Layout
from keras_parewire.rewiring.rewire import rewire_values
from keras_parewire.rewiring.seeding import Stream, noise_key
from keras_parewire.rewiring.strengths import matrix_strengths, mean_variance
from keras_parewire.rewiring.validation import (
    Tensor,
    check_finite,
    finite_values,
)


class Kernel(NamedTuple):
    """A weight of a model, and how it is read as matrices."""

    weight: OwnedWeight
    layout: Layout


class Rewired(NamedTuple):
    """A kernel's new values, and its strength variances.

    Attributes:
        before: The variance in the model.
        start: The variance before the rewiring: that of a new draw, if the
            kernel was drawn anew.
        after: The variance after the rewiring.
        values: An array or, if there are several hosts, a sharded tensor.
    """

    before: float
    start: float
    after: float
    values: Tensor


class KernelRewiring(NamedTuple):
    """What is done to every kernel of a model.

    Attributes:
        base: The initializer to draw from, or None to keep the values.
        seed: The model's seed, from which each kernel's own are derived.
        exponent: Exponent of the attachment probability.
        block_size: How many rows share one snapshot of the strengths.
    """

    base: Base | None
    seed: int
    exponent: float
    block_size: int

    @property
    def draws_in_order(self) -> bool:
        """Whether the base may draw from a state that all kernels share."""
        fixed = self.base is None or isinstance(self.base, np.ndarray)
        return not fixed and not has_seed(self.base)

    def draw(self, kernel: Kernel) -> np.ndarray | None:
        """Draws new values, if there is a base.

        It is not called in a thread: a base may not be able to draw there.
        """
        if self.base is None:
            return None
        return _draw(self.base, kernel.weight, self.seed)

    def compute(
        self,
        kernel: Kernel,
        current: np.ndarray,
        drawn: np.ndarray | None,
        threads: int,
    ) -> Rewired:
        """Rewires the drawn or else the current values, also in a thread."""
        layout, path = kernel.layout, kernel.weight.variable.path
        check_finite(current, path)
        start = before = strength_variance_of(current, layout)
        if drawn is not None:
            start = strength_variance_of(drawn, layout)
        values = rewire_values(
            current if drawn is None else drawn,
            layout,
            self.exponent,
            self.block_size,
            noise_key(kernel.weight.seed(self.seed, Stream.REWIRING)),
            threads,
        )
        after = strength_variance_of(values, layout)
        return Rewired(before, start, after, values)

    def block(self, kernel: Kernel) -> int:
        """How many weights are sorted at a time, in the pass with the fewer."""
        _, inputs, outputs = kernel.layout.stack_shape
        return min(
            min(self.block_size, outputs) * inputs,
            min(self.block_size, inputs) * outputs,
        )


def strength_variance_of(values: np.ndarray, layout: Layout) -> float:
    """Returns a kernel's strength variance, the mean over its groups."""
    pair = matrix_strengths(layout.to_stack(values, np))
    return float(np.mean(mean_variance(pair, np)))


def _draw(base: Base, weight: OwnedWeight, seed: int) -> np.ndarray:
    """Draws a kernel from `base` as Keras would for the weight's layer."""
    inputs = outputs = None
    axes = None
    if isinstance(weight.layer, keras.layers.EinsumDense):
        axes = einsum_axes(weight.layer)
    if axes is not None:
        # Keras counts a batch letter among the outputs.
        inputs = axes[0]
        outputs = [i for i in range(len(weight.shape)) if i not in inputs]
    base = reseeded(base, weight.seed(seed, Stream.BASE))
    base = with_axes(base, inputs, outputs)
    drawn = finite_values(draw_from_base(base, weight.shape, weight.dtype))
    if drawn is None:
        raise ValueError(
            "`base` must draw values, but it is being traced. "
            f"Received: base={base!r}"
        )
    return drawn
