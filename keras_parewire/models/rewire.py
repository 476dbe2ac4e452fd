"""Rewiring of whole models, in place."""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_parewire.initializers.bases import (
    Base,
    InitializerLike,
    resolve_base,
)
from keras_parewire.models.execution import rewire_all
from keras_parewire.models.kernel_plan import PlannedWeight, kernel_plan
from keras_parewire.models.kernel_rewiring import (
    Kernel,
    KernelRewiring,
    strength_variance_of,
)
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.models.optimizers import (
    check_no_steps,
    find_copies,
    renewed,
)
from keras_parewire.models.report import ReportRow, RewireReport
from keras_parewire.models.selection import Selection
from keras_parewire.models.weights import (
    OwnedWeight,
    assign_all,
    unbuilt_layers,
)
from keras_parewire.rewiring.seeding import (
    Seed,
    check_seed,
    integer_seed,
)
from keras_parewire.rewiring.validation import (
    check_count,
    check_exponent,
    known_values,
)

# How many weights it takes for `verbose="auto"` to show a progress bar.
# Rewiring that many takes about a second; a limit in seconds would make the
# output irreproducible.
_BAR_FROM = 20_000_000


def rewire_model(
    model: keras.Model | keras.layers.Layer,
    base: InitializerLike | None = None,
    *,
    exponent: float = 1.0,
    block_size: int = 1,
    layers: Selection = None,
    per_gate: bool = False,
    seed: Seed = None,
    verbose: int | str = "auto",
) -> RewireReport:
    """Rewires every kernel of a built model by preferential attachment (PA).

    It rewires each kernel in place, along the true axes of its layer; see
    `PARewired` for the rule. Compiled functions see the new weights at once.
    Biases, normalization weights, embeddings, depthwise and quantized kernels,
    and the weights of unknown layers (see `register_axes`) stay as they are;
    the report says why. Groups of a kernel, as in a convolution with `groups`,
    are rewired separately. If an error is raised, nothing changes.

    Example:

    >>> model = keras.applications.MobileNetV2(
    ...     weights=None, input_shape=(32, 32, 3)
    ... )
    >>> report = rewire_model(model, seed=0)
    >>> sum(row.skipped is None for row in report)
    36

    Args:
        model: Built Keras model or layer that has not been trained.
        base: None to rewire the current weights, or anything that `PARewired`
            takes as its base: every kernel is then first drawn from it, with a
            seed of its own.
        exponent: Number, 0 or more, the exponent of the attachment probability;
            see `PARewired`. Defaults to 1, the paper's rule.
        block_size: Positive integer, how many neurons share one snapshot of the
            strengths. Defaults to 1, the paper's rule.
        layers: Which layers to rewire. None for all; or a function that takes
            the layer that owns a kernel (in an attention layer, one of its
            `EinsumDense` projections) and returns whether to rewire it; or a
            list of layers and strings. A string is the name of a layer or the
            path of a weight, or a regular expression that matches a whole name
            or path, such as `"block.*_conv"`. A layer includes all layers
            inside it. Embeddings and depthwise kernels are rewired only if
            their own layer is in the list, as an object or by its exact name.
        per_gate: Boolean, whether to rewire the gates in the kernels of LSTM,
            GRU and ConvLSTM layers separately. Defaults to False: their kernels
            are rewired as a whole.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            one. It seeds all kernels, each with its own random stream. The
            stream depends on the name of the kernel's layer and not on the
            order of the layers, unless their names differ only in a final
            number, as Keras' automatic names do.
        verbose: 0 for silence, 1 for a progress bar, 2 for a single line, as in
            `keras.Model.fit`; `"auto"` for a progress bar if at least 20
            million weights are rewired, which takes about a second. Defaults to
            `"auto"`.

    Returns:
        A `RewireReport` with a row for each weight of the model.

    Raises:
        ValueError: If the model has not been built, has no values or has been
            trained by one of its optimizers, a kernel holds NaN or infinite
            weights, or an argument is out of range.
        TypeError: If an argument is of the wrong type.

    Warns:
        UserWarning: If biases or normalization statistics differ from their
            initial values: the weights seem to have been trained, which
            rewiring undoes.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """
    base, exponent, block_size = check_options(
        base, exponent, block_size, per_gate
    )
    seed = check_seed(seed)
    _check_verbose(verbose)
    plan = kernel_plan(model, layers, per_gate)
    check_no_steps(model)
    _warn_if_trained(plan)
    if seed is None:
        own = getattr(base, "seed", None)
        seed = own if isinstance(own, int) else None
    number = integer_seed(seed)
    kernels = [
        Kernel(planned.weight, planned.layout)
        for planned in plan
        if planned.layout is not None
    ]
    rewiring = KernelRewiring(base, number, exponent, block_size)
    results = rewire_all(kernels, rewiring, _progress(kernels, verbose))
    # Assign only when all are computed: an error leaves the model as it was.
    updates = (
        (kernel.weight.variable, result.values)
        for kernel, result in zip(kernels, results, strict=True)
    )
    assign_all(itertools.chain(updates, renewed(find_copies(model))))
    remaining = iter(results)
    rows = []
    for planned in plan:
        if planned.layout is None:
            rows.append(_row(planned))
            continue
        result = next(remaining)
        remark = _remark(
            result.start, result.after, exponent, planned.layout.stack_shape
        )
        rows.append(_row(planned, result.before, result.after, remark))
    return RewireReport((*rows, *_unbuilt_rows(model)), number)


def strength_report(model: keras.Model | keras.layers.Layer) -> RewireReport:
    """Measures the strength variance of every kernel of a built model.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> for row in strength_report(model):
    ...     print(row.path.split("/")[-1], row.shape, row.skipped)
    kernel (64, 32) None
    bias (32,) bias

    Args:
        model: Built Keras model or layer. It does not change.

    Returns:
        A `RewireReport` of the current weights, a table like that of
        `rewire_model`.

    Raises:
        ValueError: If the model has not been built or has no values, or a
            kernel holds NaN or infinite weights.
        TypeError: If `model` is not a Keras model or layer.
    """
    rows = []
    for planned in kernel_plan(model):
        variance = None
        if planned.layout is not None:
            values = planned.weight.finite_values()
            variance = strength_variance_of(values, planned.layout)
        rows.append(_row(planned, variance, variance))
    return RewireReport((*rows, *_unbuilt_rows(model)), None)


def check_options(
    base: InitializerLike | None = None,
    exponent: float = 1.0,
    block_size: int = 1,
    per_gate: bool = False,
) -> tuple[Base | None, float, int]:
    """Checks the arguments of `rewire_model` that need no model."""
    if not isinstance(per_gate, bool | np.bool_):
        raise TypeError(
            f"`per_gate` must be a Boolean. Received: per_gate={per_gate!r}"
        )
    return (
        None if base is None else resolve_base(base, None).base,
        check_exponent(exponent),
        check_count(block_size, "block_size"),
    )


def _check_verbose(verbose: Any) -> None:
    if not (isinstance(verbose, int | str) and verbose in (0, 1, 2, "auto")):
        raise ValueError(
            "`verbose` must be 0, 1, 2 or 'auto'. "
            f"Received: verbose={verbose!r}"
        )


def _warn_if_trained(plan: list[PlannedWeight]) -> None:
    changed = [
        planned.weight.variable.path
        for planned in plan
        if planned.selected
        and planned.skipped is not None
        and _left_its_start(planned.weight)
    ]
    if changed:
        warnings.warn(
            f"The weights of `model` seem to have been trained: {len(changed)} "
            "of its biases and normalization weights, such as "
            f"{changed[0]!r}, differ from their initial values. Rewiring keeps "
            "the values of the kernels but undoes what they have learned.",
            stacklevel=3,
        )


def _left_its_start(weight: OwnedWeight) -> bool:
    """Whether a weight with a constant initial value no longer has it."""
    layer, variable = weight.layer, weight.variable
    initializer = getattr(layer, f"{variable.name}_initializer", None)
    constants = keras.initializers
    if not isinstance(
        initializer, constants.Zeros | constants.Ones | constants.Constant
    ) or getattr(layer, "unit_forget_bias", False):
        return False
    start = initializer(weight.shape, variable.dtype)
    return not np.array_equal(known_values(start), known_values(variable))


def _remark(
    before: float,
    after: float,
    exponent: float,
    stack_shape: tuple[int, int, int],
) -> str | None:
    """Says how the rewiring of a kernel fell short, and why; None if not."""
    if min(stack_shape[1:]) == 1:
        return "did not change, since one side has a single neuron"
    # Exponent 0 is a shuffle, which is not meant to lower the variance.
    if exponent == 0 or after < before / 2 or before == 0:
        return None
    how = "rose" if after > before else "fell by less than a factor of 2"
    if math.isinf(exponent):
        return f"{how}, since there are few neurons"
    return (
        f"{how}: there are few neurons, or the weights are small against the 1 "
        "that the rule adds to the strengths; try a larger `exponent`"
    )


def _row(
    planned: PlannedWeight,
    before: float | None = None,
    after: float | None = None,
    remark: str | None = None,
) -> ReportRow:
    path, shape = planned.weight.variable.path, planned.weight.shape
    if planned.layout is None:
        return ReportRow(path, shape, skipped=planned.reason)
    groups, inputs, outputs = planned.layout.stack_shape
    return ReportRow(
        path, shape, inputs, outputs, groups, before, after, remark=remark
    )


def _unbuilt_rows(model: keras.Model | keras.layers.Layer) -> list[ReportRow]:
    return [
        ReportRow(
            "/".join(layer.name for layer in reversed(chain[:-1])),
            None,
            skipped=Skipped.NOT_BUILT.value,
        )
        for chain in unbuilt_layers(model)
    ]


def _progress(
    kernels: list[Kernel], verbose: int | str
) -> Callable[[int], None]:
    """Returns a function that counts rewired weights on a progress bar."""
    total = sum(math.prod(kernel.weight.shape) for kernel in kernels)
    if verbose == "auto":
        verbose = 1 if total >= _BAR_FROM else 0
    bar = keras.utils.Progbar(total, verbose=verbose, unit_name="weight")
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        bar.update(done)

    return advance
