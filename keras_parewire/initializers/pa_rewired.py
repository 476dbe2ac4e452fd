"""The initializer that rewires a base by preferential attachment."""

import math
from typing import Any

import keras

from keras_parewire.initializers.bases import (
    Base,
    InitializerLike,
    Kernel,
    draw_from_base,
)
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.rewiring.matrix_view import Axes, MatrixView
from keras_parewire.rewiring.rewire import rewire_kernel
from keras_parewire.rewiring.seeding import (
    Seed,
    noise_key,
    noise_key_and_draw,
)
from keras_parewire.rewiring.validation import check_exponent


@keras.saving.register_keras_serializable(
    package="keras_parewire", name="PARewired"
)
class PARewired(InitializerWrapper):
    """Initializer that rewires a base by preferential attachment (PA).

    It draws a kernel from `base`, keeps every value, bit for bit, and
    rearranges the values so that the strengths of the neurons (the sums of
    their weights) vary less. It visits the output neurons one by one, then the
    input neurons. For each visited neuron, it draws the neurons on the opposite
    side without replacement and gives them the visited neuron's weights in
    ascending order. The probabilities are proportional to `P ** exponent`,
    where

    `P = strengths + abs(min(strengths)) + 1`

    and each strength sums only the weights of neurons visited so far. The
    strongest neuron thus tends to receive the smallest weight.

    Examples:

    >>> # Standalone usage:
    >>> initializer = PARewired("orthogonal", seed=0)
    >>> values = initializer(shape=(64, 32))

    >>> # Usage in a Keras layer:
    >>> initializer = PARewired(keras.initializers.HeNormal())
    >>> layer = keras.layers.Dense(3, kernel_initializer=initializer)

    Args:
        base: The initializer to draw from: anything that
            `keras.initializers.get` takes (a name, config, class, instance or
            function). Defaults to `"orthogonal"`. To rewire values that exist,
            see `rewire`.
        exponent: Number, 0 or more. Exponent of the attachment probability: 1
            is the paper's rule, 0 a shuffle that ignores the strengths,
            `float("inf")` greedy by strength. Each pass leaves its first row as
            it is, so the very first weight never moves. Defaults to 1.
        input_axes: List of integers, the kernel axes that number the input
            neurons. By default kernels are `(..., in, out)`, except that
            `EinsumDense` and the attention layers pass their own. A base that
            scales with the fans (`VarianceScaling` and its subclasses) and has
            no axes of its own also uses these.
        output_axes: List of integers, the kernel axes that number the output
            neurons. Given together with `input_axes`.
        seed: A Python integer, a `keras.random.SeedGenerator` or None. It seeds
            the rewiring, which has a random stream of its own, and also an
            unseeded base. None takes the base's seed; for a base without one,
            such as a function, it derives a seed from Python's random state
            without changing that state, so that several such initializers
            rewire alike. Only with a `SeedGenerator` does the result differ
            from call to call.

    Call arguments:
        shape: Shape of the kernel, of rank 2 or more.
        dtype: Optional floating-point dtype, passed to the base.
        layout: Optional sharding, which Keras passes on JAX.

    Raises:
        ValueError: If an argument is out of range or `base` cannot be
            interpreted; when called, if the rank is below 2, the axes are not a
            partition of the kernel's, or the base returns another shape, or
            weights that are NaN, infinite or not floating point.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
    """

    def __init__(
        self,
        base: InitializerLike = "orthogonal",
        *,
        exponent: float = 1.0,
        input_axes: Axes = None,
        output_axes: Axes = None,
        seed: Seed = None,
    ) -> None:
        self.exponent = check_exponent(exponent)
        super().__init__(base, input_axes, output_axes, seed)

    def _transformed(
        self, base: Base, view: MatrixView, dtype: str | None
    ) -> Kernel:
        def draw() -> Kernel:
            return draw_from_base(base, view.kernel_shape, dtype)

        seed = self.seed
        if (
            isinstance(seed, keras.random.SeedGenerator)
            and getattr(base, "seed", None) is seed
        ):
            key, kernel = noise_key_and_draw(seed, draw)
        else:
            key, kernel = noise_key(seed), draw()
        return rewire_kernel(kernel, view, self.exponent, key)

    def get_config(self) -> dict[str, Any]:
        # JSON has no infinity.
        exponent = "inf" if self.exponent == math.inf else self.exponent
        return {**super().get_config(), "exponent": exponent}
