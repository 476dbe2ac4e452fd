"""Placement of a kernel on the devices of a distribution.

If an initializer takes a `layout`, Keras calls it eagerly for every variable of
`keras.distribution.ModelParallel` and `DataParallel`, and expects a value that
is already placed. So the kernel is made on the host, like any other, and only
the shards reach the devices. Nothing is compiled.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras

from keras_parewire.rewiring.values import Tensor, concrete_values


class Placement:
    """Where a kernel belongs; without a `layout`, it stays where it is.

    Args:
        shape: The kernel's shape.
        layout: What Keras passes to an initializer: None, or a sharding on an
            abstract mesh, which names axes but has no devices.
    """

    def __init__(self, shape: Sequence[int], layout: Any) -> None:
        self._layout: keras.distribution.TensorLayout | None = None
        if layout is None:
            return
        distribution = keras.distribution.distribution()
        if distribution is None:
            raise ValueError(
                "A variable with a layout of its own needs a distribution, "
                "which has the devices: call "
                "`keras.distribution.set_distribution` first. "
                f"Received: layout={layout}"
            )
        mesh, axes = distribution.device_mesh, tuple(layout.spec)
        sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
        for size, axis in zip(shape, axes, strict=False):
            if axis is not None and size % sizes[axis]:
                raise ValueError(
                    "The size of a sharded axis must be a multiple of the "
                    "number of its shards: shard another axis in the "
                    "`LayoutMap`, or change the mesh. "
                    f"Received: shape={tuple(shape)}, axes={axes}, mesh={sizes}"
                )
        self._layout = keras.distribution.TensorLayout(axes, mesh)

    def off_mesh(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        """Calls a function outside the mesh context.

        Keras calls the initializer with the mesh set, and JAX would compile
        every operation again for that mesh. The setting is local to a thread,
        so the function runs in another one.
        """
        if self._layout is None:
            return function(*args)
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(function, *args).result()

    def source(self, kernel: Tensor) -> Tensor:
        """Returns a kernel as an array, the best form to place it from.

        Returns a kernel that is being traced, or has no layout, unchanged.
        """
        values = None if self._layout is None else concrete_values(kernel)
        return kernel if values is None else values

    def place(self, kernel: Tensor) -> Tensor:
        """Returns a kernel on its devices."""
        if self._layout is None:
            return kernel
        # With several hosts, older versions of JAX fail on the mesh.
        return self.off_mesh(
            keras.distribution.distribute_tensor, kernel, self._layout
        )
