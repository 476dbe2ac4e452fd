"""Placement of a kernel on the devices of its layout.

If an initializer takes a `layout`, Keras calls it eagerly for every variable
that has one, and expects a value that is already placed. So the kernel is made
on the host, like any other, and only the shards reach the devices.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.values import Tensor, values_or_none


def placed(make: Callable[[], Tensor | np.ndarray], layout: Any) -> Tensor:
    """Returns the kernel that `make` returns, as a tensor on its devices.

    Keras passes an initializer the `layout`: None, a `TensorLayout`, or a
    sharding of JAX on an abstract mesh, which has no devices.
    """
    if layout is None:
        kernel = make()
        known = isinstance(kernel, np.ndarray)
        return ops.convert_to_tensor(kernel, kernel.dtype) if known else kernel
    if isinstance(layout, keras.distribution.TensorLayout):
        layout = layout.backend_layout
    # Keras calls the initializer with the mesh set: new tensors are on it.
    mesh = getattr(ops.zeros(()).sharding, "mesh", layout.mesh)
    layout = type(layout)(mesh, layout.spec)

    def make_and_place() -> Tensor:
        kernel = make()
        # Of an array, every host and device takes only its part.
        values = values_or_none(kernel)
        return keras.distribution.distribute_tensor(
            kernel if values is None else values, layout
        )

    # With the mesh set, JAX would compile every operation again for it. The
    # setting is local to a thread, so the kernel is made in another one. With
    # several hosts, older versions of JAX also fail to place it.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(make_and_place).result()
