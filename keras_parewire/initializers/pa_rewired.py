"""The initializer that rewires a base by preferential attachment."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_parewire.initializers.wrapper import (
    InitializerWrapper,
    draw_from_base,
)
from keras_parewire.rewiring.layouts import Axes
from keras_parewire.rewiring.rewire import rewire_kernel
from keras_parewire.rewiring.seeding import Seed
from keras_parewire.rewiring.validation import (
    Tensor,
    check_count,
    check_exponent,
)


@keras.saving.register_keras_serializable(
    package="keras_parewire", name="PARewired"
)
class PARewired(InitializerWrapper):
    """Initializer that rewires a base by preferential attachment (PA).

    It draws a kernel from `base` and keeps every value, bit for bit, but
    rearranges them such that the strengths of its neurons (the sums of their
    weights) vary less. The output neurons are visited one by one, then the
    input neurons. The weights of the neuron visited are handed out to the
    neurons of the other side in ascending order, and those are drawn without
    replacement with probabilities proportional to `P ** exponent`,

    `P = strengths + abs(min(strengths)) + 1`,

    where the strengths are those over the neurons visited so far. The
    strongest neuron thus tends to get the smallest weight.

    Examples:

    >>> # Standalone usage:
    >>> initializer = PARewired("orthogonal", seed=0)
    >>> values = initializer(shape=(64, 32))

    >>> # Usage in a Keras layer:
    >>> initializer = PARewired(keras.initializers.HeNormal())
    >>> layer = keras.layers.Dense(3, kernel_initializer=initializer)

    Args:
        base: The initializer to draw from: anything `keras.initializers.get`
            takes (a name, config, class, instance or function), or the values
            themselves as an array or tensor. Defaults to `"orthogonal"`.
        exponent: Number, 0 or more, of the attachment probability. 1 is the
            paper's rule, 0 a shuffle without regard to strength,
            `float("inf")` greedy by strength. Each pass starts from the row it
            finds first, so that the very first weight never moves. Defaults to
            1.
        block_size: Integer, 1 or more. How many neurons are rewired on one
            snapshot of the strengths. Defaults to 1, the paper's rule.
        input_axes: List of integers, the kernel axes that number the input
            neurons. By default kernels are `(..., in, out)`, except that
            `EinsumDense` and the attention layers name their own. A base that
            scales with the fans (`VarianceScaling` and its kin) and has no
            axes of its own is given these.
        output_axes: List of integers, the kernel axes that number the output
            neurons. Given together with `input_axes`.
        seed: A Python integer, a `keras.random.SeedGenerator` or None. It
            seeds the rewiring, by a stream of its own, and also an unseeded
            base. None takes the base's seed. Note that an initializer seeded
            with an integer or None produces the same values on every call; to
            get different ones, use a `SeedGenerator`.

    Call arguments:
        shape: Shape of the kernel, of rank 2 or more.
        dtype: Optional floating-point dtype, passed to the base.

    Raises:
        ValueError: If an argument is out of range, `base` cannot be
            interpreted; when called, if the rank is below 2, the axes are not
            a partition of the kernel's, or the base gives another shape, NaN,
            infinite or non-float weights.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """

    def __init__(
        self,
        base: Any = "orthogonal",
        *,
        exponent: float = 1.0,
        block_size: int = 1,
        input_axes: Axes = None,
        output_axes: Axes = None,
        seed: Seed = None,
    ) -> None:
        self.exponent = check_exponent(exponent)
        self.block_size = check_count(block_size, "block_size")
        super().__init__(base, input_axes, output_axes, seed)

    def __call__(
        self, shape: Sequence[int], dtype: str | None = None
    ) -> Tensor:
        layout = self._layout(shape)
        kernel = draw_from_base(self._complete_base, shape, dtype)
        return rewire_kernel(
            kernel, layout, self.exponent, self.block_size, self.seed
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "exponent": self.exponent,
            "block_size": self.block_size,
        }
