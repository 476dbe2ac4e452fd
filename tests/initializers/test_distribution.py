"""Initialization on the devices of a `keras.distribution`, on JAX."""

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same, recorded_engines
from keras import layers

from keras_parewire import (
    ChannelAverage,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
)

pytestmark = pytest.mark.backend("jax")

INITIALIZERS = {
    "PARewired": lambda: PARewired("he_normal", seed=7),
    "StrengthStabilized": lambda: StrengthStabilized(
        "he_normal", candidates=3, seed=7
    ),
    "nested": lambda: PARewired(
        StrengthStabilized("orthogonal", candidates=3), seed=7
    ),
    "ChannelAverage": ChannelAverage,
    "Sinusoidal": Sinusoidal,
}


@pytest.fixture
def distribute():
    """Sets a distribution of given mesh and kernel axes, and ends it."""

    def set_distribution(mesh_shape, kernel_axes):
        count = int(np.prod(mesh_shape))
        mesh = keras.distribution.DeviceMesh(
            mesh_shape,
            ["batch", "model"][-len(mesh_shape) :],
            keras.distribution.list_devices("cpu")[:count],
        )
        if kernel_axes is None:
            distribution = keras.distribution.DataParallel(device_mesh=mesh)
        else:
            layout_map = keras.distribution.LayoutMap(mesh)
            layout_map[".*kernel"] = kernel_axes
            distribution = keras.distribution.ModelParallel(
                layout_map=layout_map
            )
        keras.distribution.set_distribution(distribution)

    yield set_distribution
    keras.distribution.set_distribution(None)


MESHES = [
    ((1,), (None, "model")),
    ((4,), ("model", None)),
    ((4, 2), ("model", "batch")),
    ((2, 2), ("model", None)),
    ((8,), (None, None)),
    ((8,), None),
]


@pytest.mark.parametrize(
    ("name", "mesh_shape", "kernel_axes"),
    [(name, (2, 4), ("batch", "model")) for name in INITIALIZERS]
    + [("PARewired", *mesh) for mesh in MESHES],
    ids=str,
)
def test_same_bits_on_any_mesh(distribute, name, mesh_shape, kernel_axes):
    make = INITIALIZERS[name]
    expected = make()((64, 48))
    distribute(mesh_shape, kernel_axes)
    with recorded_engines() as engines:
        layer = layers.Dense(48, kernel_initializer=make())
        layer.build((None, 64))
    # The values are known, so that nothing is compiled.
    assert "traced_engine" not in engines
    kernel = layer.kernel.value
    if kernel_axes is not None:
        sizes = dict(
            zip(["batch", "model"][-len(mesh_shape) :], mesh_shape, strict=True)
        )
        shard = [
            size // sizes.get(axis, 1)
            for size, axis in zip((64, 48), kernel_axes, strict=True)
        ]
        assert kernel.addressable_shards[0].data.shape == tuple(shard)
    assert len(kernel.addressable_shards) == np.prod(mesh_shape)
    assert_same(kernel, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PARewired", "Sinusoidal"])
def test_bfloat16_and_attention(distribute, name):
    def build():
        layer = layers.MultiHeadAttention(
            4, 8, kernel_initializer=INITIALIZERS[name](), dtype="bfloat16"
        )
        layer.build((1, 4, 32), (1, 4, 32))
        return [weight.value for weight in layer.weights]

    expected = build()
    distribute((4,), ("model", None, None))
    for one, other in zip(build(), expected, strict=True):
        assert one.dtype == other.dtype
        assert_same(one, other)


@pytest.mark.slow
def test_large_kernels_are_not_compiled(distribute, monkeypatch):
    import jax

    # Keras compiles the initializers of kernels this large otherwise.
    shape = (2048, 4096)
    expected = INITIALIZERS["StrengthStabilized"]()(shape)
    distribute((8,), (None, "model"))

    def fail(*args, **kwargs):
        raise AssertionError("compiled")

    layer = layers.Dense(
        shape[1],
        kernel_initializer=INITIALIZERS["StrengthStabilized"](),
        use_bias=False,
    )
    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", fail)
        layer.build((None, shape[0]))
    kernel = layer.kernel.value
    assert kernel.addressable_shards[0].data.shape == (2048, 512)
    assert_same(kernel, expected)


def jax_mesh(shape, names, order=1):
    import jax

    return jax.sharding.Mesh(
        np.array(jax.devices()[::order]).reshape(shape), names
    )


LAYOUTS = {
    "other names": lambda: (jax_mesh((2, 4), ("b", "m")), (None, "m")),
    "other devices": lambda: (jax_mesh(8, ("batch",), -1), ("batch", None)),
    "two axes for one": lambda: (
        jax_mesh((2, 4), ("batch", "model"), -1),
        (("batch", "model"), None),
    ),
    "fewer axes": lambda: (jax_mesh((2, 4), ("batch", "model")), ("model",)),
}


@pytest.mark.parametrize("distributed", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["PARewired", "ChannelAverage"])
def test_any_layout(distribute, name, layout, distributed):
    from jax.sharding import NamedSharding, PartitionSpec

    make = INITIALIZERS[name]
    expected = as_array(make()((16, 24)))
    if distributed:
        distribute((8,), None)
    mesh, axes = LAYOUTS[layout]()
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    plain, kernel = (
        keras.Variable(
            initializer, shape=(16, 24), dtype="float32", layout=sharding
        ).value
        for initializer in ("he_normal", make())
    )
    assert kernel.sharding.is_equivalent_to(plain.sharding, 2)
    assert kernel.sharding.is_equivalent_to(sharding, 2)
    for shard in kernel.addressable_shards:
        assert_same(shard.data, expected[shard.index])


def test_a_layout_of_keras(distribute):
    mesh = keras.distribution.DeviceMesh(
        (2,), ["model"], keras.distribution.list_devices("cpu")[:2]
    )
    layout = keras.distribution.TensorLayout((None, "model"), mesh)
    make = INITIALIZERS["PARewired"]
    for kernel in (
        make()((4, 4), layout=layout),
        keras.Variable(make(), shape=(4, 4), layout=layout).value,
    ):
        assert kernel.addressable_shards[0].data.shape == (4, 2)
        assert_same(kernel, make()((4, 4)))


def test_a_shape_that_the_mesh_does_not_divide(distribute):
    distribute((8,), (None, "model"))
    for initializer in (PARewired(), "he_normal"):
        with pytest.raises(ValueError, match=r"partitioned 8 t|divisible by 8"):
            layers.Dense(50, kernel_initializer=initializer).build((None, 64))
