"""The initializer that picks the draw with the most even strengths."""

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.initializers.bases import (
    Base,
    InitializerLike,
    Kernel,
    draw_from_base,
    has_seed,
)
from keras_parewire.initializers.reseeding import with_new_seeds
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.rewiring.matrix_view import Axes, MatrixView
from keras_parewire.rewiring.seeding import Seed, derive_seed, integer_seed
from keras_parewire.rewiring.strengths import mean_variance, view_variance
from keras_parewire.rewiring.validation import check_count
from keras_parewire.rewiring.values import Tensor


@keras.saving.register_keras_serializable(
    package="keras_parewire", name="StrengthStabilized"
)
class StrengthStabilized(InitializerWrapper):
    """Initializer that picks the draw of a base with the most even strengths.

    It draws `candidates` kernels from `base` and returns the one with the
    lowest `strength_variance`. Use it alone or under the rewiring, as in
    `PARewired(StrengthStabilized("orthogonal"))`.

    Examples:

    >>> # Standalone usage:
    >>> initializer = StrengthStabilized("orthogonal", candidates=10, seed=0)
    >>> values = initializer(shape=(64, 32))

    >>> # Usage in a Keras layer:
    >>> initializer = StrengthStabilized("he_normal", candidates=10)
    >>> layer = keras.layers.Dense(3, kernel_initializer=initializer)

    Args:
        base: The initializer to draw from; see `PARewired`. The first candidate
            is the base's own draw. For the others, a base with a seed is
            re-created with seeds derived from it. If all draws of the base are
            equal, that one draw is used, with a warning. Defaults to
            `"orthogonal"`.
        candidates: Integer, 1 or more. How many kernels to draw. Defaults to
            100, the paper's number.
        input_axes: Axes of the input neurons; see `PARewired`.
        output_axes: Axes of the output neurons; see `PARewired`.
        seed: A Python integer, a `keras.random.SeedGenerator` or None; see
            `PARewired`. It seeds the candidates, and also an unseeded base.

    Call arguments and errors: see `PARewired`.

    Reference:

    - [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
    """

    def __init__(
        self,
        base: InitializerLike = "orthogonal",
        *,
        candidates: int = 100,
        input_axes: Axes = None,
        output_axes: Axes = None,
        seed: Seed = None,
    ) -> None:
        self.candidates = check_count(candidates, "candidates")
        super().__init__(base, input_axes, output_axes, seed)

    def _transformed(
        self, base: Base, view: MatrixView, dtype: str | None
    ) -> Kernel:
        bases = self._candidate_bases(base)
        best = draw_from_base(next(bases), view.kernel_shape, dtype)
        lowest = _strength_variance(best, view)
        for number, candidate in enumerate(bases, start=1):
            drawn = draw_from_base(candidate, view.kernel_shape, dtype)
            variance = _strength_variance(drawn, view)
            if not isinstance(variance, float):  # Traced.
                best = ops.where(variance < lowest, drawn, best)
                lowest = ops.minimum(variance, lowest)
                continue
            if (
                number == 1
                and variance == lowest
                and np.array_equal(drawn, best)
            ):
                warnings.warn(
                    "`StrengthStabilized` needs a base whose draws differ. Its "
                    "only draw is used. Received: "
                    f"base={self.base!r}",
                    stacklevel=4,
                )
                break
            if variance < lowest:
                best, lowest = drawn, variance
        return best

    def _candidate_bases(self, base: Base) -> Iterator[Base]:
        seed = self.seed
        fixed = has_seed(base) and not isinstance(
            base.seed, keras.random.SeedGenerator
        )
        if fixed and isinstance(seed, keras.random.SeedGenerator):
            base, fixed = with_new_seeds(base, lambda: seed), False
        yield base
        if fixed and not isinstance(seed, int):
            seed = integer_seed(seed)  # A key of JAX.
        for number in range(1, self.candidates):
            if fixed:
                candidate = derive_seed(seed, number)
                yield with_new_seeds(base, lambda: candidate)  # noqa: B023
            else:
                yield base

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "candidates": self.candidates}


def _strength_variance(drawn: Kernel, view: MatrixView) -> float | Tensor:
    """Returns a float, or a tensor if `drawn` is being traced."""
    if isinstance(drawn, np.ndarray):
        return view_variance(drawn, view)
    stack = ops.cast(view.to_stack(drawn, ops), "float32")
    pair = ops.sum(stack, axis=2), ops.sum(stack, axis=1)
    return ops.mean(mean_variance(pair, ops))
