"""Values of tensors: reading them, and whether they are real numbers."""

from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

# A tensor of the current backend: the three share no public type.
Tensor: TypeAlias = Any


def as_tensor(values: Any, name: str) -> Tensor:
    """Converts `values` to a tensor; errors call them `name`."""
    check_real(values, name)
    held = values.value if isinstance(values, keras.Variable) else values
    if getattr(held, "is_meta", False):
        return held  # Keras would fill PyTorch's placeholder at random.
    return ops.convert_to_tensor(held)


def values_or_none(tensor: Tensor) -> np.ndarray | None:
    """Returns the values of a tensor, or None while it is being traced.

    Unlike `keras.ops.convert_to_numpy`, it gathers shards on several hosts: all
    processes must call it for the same tensors in the same order.
    """
    try:
        values: np.ndarray = ops.convert_to_numpy(tensor)
    except (TypeError, NotImplementedError):
        # JAX, TensorFlow and PyTorch's meta device raise these where there are
        # no values; Keras offers no test for it.
        return None
    except RuntimeError as error:
        distribution = keras.distribution.distribution()
        if distribution is None:
            raise ValueError(
                "The values of a tensor must be readable. They are not inside "
                "`torch.vmap` and `torch.func.grad`, and where shards are on "
                "several hosts only after `keras.distribution."
                "set_distribution`. Received: a tensor of shape "
                f"{tuple(tensor.shape)}, for which {error}"
            ) from error
        replicated = keras.distribution.TensorLayout(
            [None] * len(tensor.shape), distribution.device_mesh
        )
        values = ops.convert_to_numpy(
            keras.distribution.distribute_tensor(
                ops.convert_to_tensor(tensor), replicated
            )
        )
    return values


def known_values(kernel: Any, name: str = "kernel") -> np.ndarray:
    """Returns the values of a tensor or an array, which must have some."""
    values = values_or_none(kernel)
    if values is None:
        raise ValueError(
            f"`{name}` must have values here, but it is being traced or a "
            f"placeholder. Received: {name}={kernel}"
        )
    return values


def check_real(kernel: Any, name: str = "kernel") -> None:
    """Raises if this is not a tensor or an array of real numbers."""
    # Keras would drop the imaginary parts of a list.
    try:
        held = kernel if hasattr(kernel, "shape") else np.asarray(kernel)
        dtype = keras.backend.standardize_dtype(held.dtype)
        real = keras.backend.is_float_dtype(
            dtype
        ) or keras.backend.is_int_dtype(dtype)
    except (TypeError, ValueError):  # A ragged list, or an unknown dtype.
        real = False
    if not real:
        raise TypeError(
            f"`{name}` must be a tensor or an array of real numbers. "
            f"Received: {name}={kernel!r}"
        )


def check_finite(values: np.ndarray, name: str = "kernel") -> None:
    """Raises if a weight is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ValueError(
            "The weights of a kernel must be finite. "
            f"Received: {name} of shape {values.shape} with "
            f"{np.isnan(values).sum()} NaN and {np.isinf(values).sum()} "
            "infinite weights"
        )
