"""The initializer that takes the strengths out of a base."""

import keras

from keras_parewire.initializers.bases import (
    Base,
    InitializerLike,
    Kernel,
    draw_from_base,
)
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.rewiring.centering import center_kernel
from keras_parewire.rewiring.matrix_view import Axes, MatrixView
from keras_parewire.rewiring.seeding import Seed


@keras.saving.register_keras_serializable(
    package="keras_parewire", name="Centered"
)
class Centered(InitializerWrapper):
    """Initializer that takes the strengths out of a base.

    It draws a kernel from `base` and, with the kernel read as a matrix `M` of
    shape `(inputs, outputs)`, subtracts the means of its rows and columns and
    restores its standard deviation:

    `C = M - mean(M, axis=1) - mean(M, axis=0) + mean(M)`,
    `C * std(M) / std(C)`

    All strengths (the sums of the weights of each neuron) are then 0, up to
    rounding, which differs in compiled programs. Unlike `PARewired`, it changes
    the values: their distribution stays only nearly what it was. A kernel with
    a single input or output, or one that is constant, stays as it is.

    An orthogonal base does not stay orthogonal, since centering takes one
    direction out of the rows and one out of the columns: of the singular values
    of a 512 x 256 kernel, all 1 before, one becomes 0, one 0.7, and the others
    1.003.

    Examples:

    >>> # Standalone usage:
    >>> initializer = Centered("he_normal", seed=0)
    >>> values = initializer(shape=(64, 32))
    >>> strength_variance(values) < 1e-10
    True

    >>> # Usage in a Keras layer:
    >>> initializer = Centered(keras.initializers.HeNormal())
    >>> layer = keras.layers.Dense(3, kernel_initializer=initializer)

    Args:
        base: The initializer to draw from; see `PARewired`. Defaults to
            `"orthogonal"`.
        input_axes: Axes of the input neurons; see `PARewired`.
        output_axes: Axes of the output neurons; see `PARewired`.
        seed: A Python integer, a `keras.random.SeedGenerator` or None. It
            seeds an unseeded base; nothing else is random.

    Call arguments and errors: see `PARewired`.
    """

    def __init__(
        self,
        base: InitializerLike = "orthogonal",
        *,
        input_axes: Axes = None,
        output_axes: Axes = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(base, input_axes, output_axes, seed)

    def _transformed(
        self, base: Base, view: MatrixView, dtype: str | None
    ) -> Kernel:
        return center_kernel(
            draw_from_base(base, view.kernel_shape, dtype), view
        )
