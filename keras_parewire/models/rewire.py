"""Rewiring of whole models, in place."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.initializers.base import (
    draw_from_base,
    resolve_base,
    with_seed_and_axes,
)
from keras_parewire.models.kernel_axes import einsum_axes
from keras_parewire.models.report import ReportRow, RewireReport
from keras_parewire.models.weights import (
    OwnedWeight,
    Plan,
    Selection,
    assign_all,
    check_no_steps,
    kernel_plan,
    selector,
)
from keras_parewire.rewiring.layouts import Layout
from keras_parewire.rewiring.rewire import rewire_kernel
from keras_parewire.rewiring.seeding import (
    Seed,
    Stream,
    check_seed,
    integer_seed,
    noise_key,
)
from keras_parewire.rewiring.strengths import matrix_strengths, mean_variance
from keras_parewire.rewiring.validation import (
    check_count,
    check_exponent,
    finite_values,
)


def rewire_model(
    model: Any,
    base: Any = None,
    *,
    exponent: float = 1.0,
    block_size: int = 1,
    layers: Selection = None,
    per_gate: bool = False,
    seed: Seed = None,
    verbose: int | str = "auto",
) -> RewireReport:
    """Rewires every kernel of a built model by preferential attachment (PA).

    It does so in place, each kernel by the true axes of its layer: see
    `PARewired` for the rule. Compiled functions see the new weights at once.
    Biases, normalization, embeddings, depthwise and quantized kernels, and
    layers of unknown classes (see `register_axes`) are left as they are; the
    report says why. Groups of a kernel, as of a convolution with `groups`, are
    rewired each by itself. After an error nothing has changed.

    Example:

    >>> model = keras.applications.MobileNetV2(
    ...     weights=None, input_shape=(32, 32, 3)
    ... )
    >>> report = rewire_model(model, seed=0)
    >>> sum(row.skipped is None for row in report)
    36

    Args:
        model: Built Keras model or layer that has not been trained.
        base: None to rewire the weights that are there. Else every kernel is
            drawn anew from it first, each with a seed of its own: anything
            `PARewired` takes as its base.
        exponent: Number, 0 or more, of the attachment probability; see
            `PARewired`. Defaults to 1, the paper's rule.
        block_size: Integer, 1 or more. How many neurons are rewired on one
            snapshot of the strengths. Defaults to 1, the paper's rule.
        layers: None for all layers, or a function that is called with the
            layer that owns a kernel (in an attention layer its `EinsumDense`
            projections) and returns whether to rewire it, or a list of layers
            and of patterns of layer names such as `"block*_conv"`, which
            include all layers inside them, or of weights' paths. Embeddings and
            depthwise kernels are rewired if their layer itself is in the list.
        per_gate: Whether to rewire the gates' blocks of the kernels of LSTM,
            GRU and ConvLSTM layers each by itself. By default their kernels are
            rewired as a whole. Defaults to False.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw; it seeds all kernels, each by a stream of its own. A kernel's
            stream goes by the name of its layer, so that it does not depend on
            the layers' order, except among layers whose names differ in a
            final number only, as those do that Keras names.
        verbose: 0 for silence, 1 for a progress bar, `"auto"` for one if it
            takes longer than a second. Defaults to `"auto"`.

    Returns:
        A `RewireReport` with a row for each weight of the model.

    Raises:
        ValueError: If the model has not been built or its optimizer has
            already made a step, a kernel holds NaN or infinite weights, or an
            argument is out of range.
        TypeError: If an argument is of the wrong type.

    Warns:
        UserWarning: If biases or normalization statistics are not as their
            initializers make them: the weights seem to be trained, which
            rewiring undoes.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """
    exponent = check_exponent(exponent)
    block_size = check_count(block_size, "block_size")
    seed = check_seed(seed)
    if verbose not in (0, 1, "auto"):
        raise ValueError(
            f"`verbose` must be 0, 1 or 'auto'. Received: verbose={verbose!r}"
        )
    if base is not None:
        base = resolve_base(base, None).base
    plan = kernel_plan(model, layers, per_gate)
    _check_untrained(model, layers, plan)
    if seed is None:
        own = getattr(base, "seed", None)
        seed = own if isinstance(own, int) else None
    number = integer_seed(seed)
    advance = _progress(plan, verbose)
    updates, rows = [], []
    for weight, layout in plan:
        if isinstance(layout, str):
            rows.append(_row(weight, layout))
            continue
        values = weight.values()
        before = _strength_variance(layout.to_stack(values, np))
        if base is not None:
            values = _draw(base, weight, number)
        key = noise_key(weight.seed(number, Stream.REWIRING))
        values = rewire_kernel(values, layout, exponent, block_size, key)
        after = _strength_variance(layout.to_stack(values, np))
        updates.append((weight.variable, values))
        rows.append(_row(weight, layout, before, after))
        advance(values.size)
    # Not before all is computed, so that an error leaves the model as it was.
    assign_all(updates)
    return RewireReport(tuple(rows), number)


def strength_report(model: Any) -> RewireReport:
    """Measures the strength variance of every kernel of a built model.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> for row in strength_report(model):
    ...     print(row.path.split("/")[-1], row.shape, row.skipped)
    kernel (64, 32) None
    bias (32,) bias

    Args:
        model: Built Keras model or layer; it is not changed.

    Returns:
        The table that `rewire_model` returns, of the weights as they are.

    Raises:
        ValueError: If the model has not been built, or a kernel holds NaN or
            infinite weights.
        TypeError: If it is no Keras model or layer.
    """
    rows = []
    for weight, layout in kernel_plan(model, None, False):
        if isinstance(layout, str):
            rows.append(_row(weight, layout))
        else:
            variance = _strength_variance(layout.to_stack(weight.values(), np))
            rows.append(_row(weight, layout, variance, variance))
    return RewireReport(tuple(rows), None)


def _check_untrained(model: Any, layers: Selection, plan: Plan) -> None:
    """Raises or warns if rewiring would undo a training."""
    check_no_steps(model)
    chosen = selector(model, layers)
    changed = [
        weight.variable.path
        for weight, layout in plan
        if isinstance(layout, str)
        and chosen(weight)[0]
        and _left_its_start(weight)
    ]
    if changed:
        warnings.warn(
            f"The weights of `model` seem to be trained: {len(changed)} of its "
            "biases and normalization weights are not as initialized, "
            f"{changed[0]!r} for one. Rewiring keeps their values but undoes "
            "what they have learned.",
            stacklevel=3,
        )


def _left_its_start(weight: OwnedWeight) -> bool:
    """Whether a weight with a constant start is no longer there."""
    layer, variable = weight.chain[0], weight.variable
    initializer = getattr(layer, f"{variable.name}_initializer", None)
    constants = keras.initializers
    if not isinstance(
        initializer, constants.Zeros | constants.Ones | constants.Constant
    ) or getattr(layer, "unit_forget_bias", False):
        return False
    start = initializer(tuple(variable.shape), variable.dtype)
    return not np.array_equal(
        ops.convert_to_numpy(start), ops.convert_to_numpy(variable)
    )


def _draw(base: Any, weight: OwnedWeight, seed: int) -> np.ndarray:
    """Draws a kernel from `base` as Keras would for the weight's layer."""
    layer, variable = weight.chain[0], weight.variable
    inputs = outputs = None
    axes = None
    if isinstance(layer, keras.layers.EinsumDense):
        axes = einsum_axes(layer)
    if axes is not None:
        # Keras counts a batch letter among the outputs.
        inputs = axes[0]
        outputs = [i for i in range(len(variable.shape)) if i not in inputs]
    base = with_seed_and_axes(
        base, weight.seed(seed, Stream.BASE), inputs, outputs
    )
    dtype = keras.backend.standardize_dtype(variable.dtype)
    drawn = finite_values(draw_from_base(base, tuple(variable.shape), dtype))
    if drawn is None:
        raise ValueError(
            "A model cannot be rewired while it is being traced. "
            f"Received: base={base!r} without values"
        )
    return drawn


def _strength_variance(stack: np.ndarray) -> float:
    return float(np.mean(mean_variance(matrix_strengths(stack), np)))


def _row(
    weight: OwnedWeight,
    layout: Layout | str,
    before: float | None = None,
    after: float | None = None,
) -> ReportRow:
    path, shape = weight.variable.path, tuple(weight.variable.shape)
    if isinstance(layout, str):
        return ReportRow(path, shape, skipped=layout)
    groups, inputs, outputs = layout.stack_shape
    return ReportRow(path, shape, inputs, outputs, groups, before, after)


def _progress(plan: Plan, verbose: int | str) -> Callable[[int], None]:
    """Returns what is told of each kernel's number of weights when done."""
    total = sum(
        int(np.prod(weight.variable.shape))
        for weight, layout in plan
        if not isinstance(layout, str)
    )
    bar = keras.utils.Progbar(total, unit_name="weight")
    start, done = time.monotonic(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if verbose == 1 or (verbose == "auto" and time.monotonic() > start + 1):
            bar.update(done)

    return advance
