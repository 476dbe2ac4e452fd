"""Every way in which Keras builds a layer, and the layers that name axes."""

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same, recorded_engines
from keras import layers, ops

from keras_parewire import PARewired, StrengthStabilized, strength_variance

INPUTS, OUTPUTS = 48, 32
X = np.ones((8, INPUTS), "float32")
Y = np.ones((8, OUTPUTS), "float32")


def initializer():
    return PARewired("he_normal", seed=7)


def dense(**kwargs):
    return layers.Dense(OUTPUTS, kernel_initializer=initializer(), **kwargs)


class Lazy(layers.Layer):
    """Builds its sublayer when it is called."""

    def __init__(self):
        super().__init__()
        self.dense = dense()

    def call(self, x):
        return self.dense(x)


class LazyModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = dense()

    def call(self, x):
        return self.dense(x)


def fit(model, **kwargs):
    # A learning rate of 0 leaves the kernel as it was built.
    model.compile(keras.optimizers.SGD(0.0), "mse", **kwargs)
    model.fit(X, Y, verbose=0)


def build():
    layer = dense()
    layer.build((None, INPUTS))
    return layer


def call():
    layer = dense()
    layer(X)
    return layer


def functional():
    layer = dense()
    keras.Model(inputs := keras.Input((INPUTS,)), layer(inputs))
    return layer


def lazy_call():
    layer = Lazy()
    layer(X)
    return layer.dense


def lazy_functional():
    layer = Lazy()
    keras.Model(inputs := keras.Input((INPUTS,)), layer(inputs))
    return layer.dense


def lazy_fit():
    layer = Lazy()
    fit(keras.Sequential([layer]))
    return layer.dense


def subclassed_fit():
    model = LazyModel()
    fit(model)
    return model.dense


def sequential_fit():
    layer = dense()
    fit(keras.Sequential([layer]))
    return layer


def sequential_fit_jit():
    layer = dense()
    fit(keras.Sequential([layer]), jit_compile=True)
    return layer


def stateless_scope():
    layer = dense()
    with keras.StatelessScope():
        layer.build((None, INPUTS))
        inside = ops.copy(layer.kernel.value)
    assert_same(inside, layer.kernel.value)
    return layer


def time_distributed():
    layer = dense()
    layers.TimeDistributed(layer)(X[:, np.newaxis])
    return layer


def remat():
    with keras.RematScope(mode="full"):
        layer = dense()
        layer(X)
    return layer


WAYS = [
    build,
    call,
    functional,
    lazy_call,
    lazy_functional,
    lazy_fit,
    subclassed_fit,
    sequential_fit,
    # PyTorch compiles only steps of models that are built already.
    pytest.param(
        sequential_fit_jit, marks=pytest.mark.backend("tensorflow", "jax")
    ),
    stateless_scope,
    time_distributed,
    remat,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_every_way_gives_the_same_kernel(way):
    expected = initializer()((INPUTS, OUTPUTS))
    plain = keras.initializers.HeNormal(seed=7)((INPUTS, OUTPUTS))
    assert strength_variance(expected) < strength_variance(plain) / 4
    assert_same(way().kernel.value, expected)


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_first_call_inside_tf_function(jit_compile):
    import tensorflow as tf

    layer = dense()
    with recorded_engines() as engines:
        tf.function(layer, jit_compile=jit_compile)(tf.constant(X))
    # TensorFlow only ever traces here: what is traced is what is trained.
    assert engines == ["traced_engine"]
    assert_same(layer.kernel.value, initializer()((INPUTS, OUTPUTS)))


@pytest.mark.backend("tensorflow")
def test_tf_graph():
    import tensorflow as tf

    with tf.Graph().as_default():
        values = initializer()((INPUTS, OUTPUTS))
        with tf.compat.v1.Session() as session:
            values = session.run(values)
    assert_same(values, initializer()((INPUTS, OUTPUTS)))


@pytest.mark.backend("torch")
def test_torch_meta_device():
    with recorded_engines() as engines, keras.device("meta"):
        for wrapper in (PARewired, StrengthStabilized):
            values = wrapper("he_normal")((INPUTS, OUTPUTS))
            assert values.is_meta
            assert values.shape == (INPUTS, OUTPUTS)
    assert engines == []


@pytest.mark.backend("jax")
def test_jax_jit():
    import jax

    with recorded_engines() as engines:
        values = jax.jit(lambda: initializer()((INPUTS, OUTPUTS)))()
    assert engines == ["traced_engine"]
    assert_same(values, initializer()((INPUTS, OUTPUTS)))


def test_engine_follows_the_values(kernel):
    with recorded_engines() as engines:
        initializer()((INPUTS, OUTPUTS))
        dense()(X)
    assert engines == ["host_engine", "host_engine"]


def test_stabilized_when_traced():
    stabilized = StrengthStabilized("glorot_uniform", candidates=10, seed=3)
    layer = layers.Dense(OUTPUTS, kernel_initializer=stabilized)
    fit(keras.Sequential([layer]))
    assert_same(layer.kernel.value, stabilized((INPUTS, OUTPUTS)))


@pytest.mark.parametrize("shared", [True, False])
def test_seed_generator_when_traced(shared):
    generator = keras.random.SeedGenerator(3)
    base = keras.initializers.GlorotUniform(seed=generator if shared else 1)
    wrapped = PARewired(base, seed=generator)
    layer = layers.Dense(OUTPUTS, kernel_initializer=wrapped)
    fit(keras.Sequential([layer]))
    kernel = layer.kernel.value
    assert strength_variance(kernel) < 0.5
    plain = keras.initializers.GlorotUniform(seed=1)((INPUTS, OUTPUTS))
    if not shared:
        assert_permutation(kernel, plain)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    layer = dense(dtype=policy)
    assert keras.backend.standardize_dtype(layer(X).dtype) == policy[6:]
    assert_same(layer.kernel.value, initializer()((INPUTS, OUTPUTS)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    layer = dense(dtype=dtype)
    layer.build((None, INPUTS))
    plain = keras.initializers.HeNormal(seed=7)((INPUTS, OUTPUTS), dtype)
    assert_permutation(layer.kernel.value, plain)
    kernel = ops.cast(layer.kernel.value, "float32")
    assert strength_variance(kernel) < strength_variance(plain) / 4


ATTENTION = {
    "MultiHeadAttention": lambda base: layers.MultiHeadAttention(
        4, 16, kernel_initializer=base
    ),
    "GroupQueryAttention": lambda base: layers.GroupQueryAttention(
        16, 4, 4, kernel_initializer=base
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("MultiHeadAttention", "glorot_uniform"),
        ("MultiHeadAttention", "orthogonal"),
        ("GroupQueryAttention", "he_normal"),
    ],
)
def test_attention_uses_its_true_axes(name, base):
    def kernels(base):
        layer = ATTENTION[name](base)
        layer.build((None, 10, 64), (None, 10, 64))
        found = [w.value for w in layer.weights if w.path.endswith("kernel")]
        assert len(found) == 4
        return found

    query_axes = {"input_axes": [0], "output_axes": [1, 2]}
    output_axes = {"input_axes": [0, 1], "output_axes": [2]}
    axes = [query_axes] * 3 + [output_axes]
    pairs = zip(kernels(base), kernels(PARewired(base)), axes, strict=True)
    for plain, wrapped, axes in pairs:
        ratio = np.std(as_array(plain)) / np.std(as_array(wrapped))
        assert ratio == pytest.approx(1, abs=0.08)
        before = strength_variance(plain, **axes)
        assert strength_variance(wrapped, **axes) < before / 3


def test_einsum_dense_with_stabilized():
    layer = layers.EinsumDense(
        "abc,cde->abde",
        (None, 4, 6),
        kernel_initializer=StrengthStabilized(
            "he_normal", candidates=5, seed=1
        ),
    )
    layer.build((None, 3, 24))
    axes = {"input_axes": [0], "output_axes": [1, 2]}
    expected = StrengthStabilized("he_normal", candidates=5, seed=1, **axes)(
        (24, 4, 6)
    )
    assert_same(layer.kernel.value, expected)


@pytest.mark.slow
def test_layers_train():
    transposed = PARewired("he_normal", input_axes=[0, 2], output_axes=[1])
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(9, 8, embeddings_initializer=PARewired("uniform")),
            layers.Conv1DTranspose(8, 3, kernel_initializer=transposed),
            layers.Flatten(),
            layers.Dense(1, kernel_initializer=PARewired()),
        ]
    )
    before = [as_array(v).copy() for v in model.trainable_variables]
    model.compile("sgd", "mse")
    x = np.arange(24).reshape(4, 6) % 9
    history = model.fit(x, np.ones((4, 1)), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for variable, start in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(as_array(variable), start), variable.path


class BuiltInCall(layers.Layer):
    """Lets Keras build its sublayers while it infers shapes."""

    def __init__(self, initializer):
        super().__init__()
        self.parts = [
            layers.Dense(12, kernel_initializer=initializer) for _ in range(2)
        ]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


@pytest.mark.parametrize(
    "make",
    [
        lambda: PARewired("he_normal", seed=1),
        lambda: StrengthStabilized("he_normal", candidates=3, seed=1),
    ],
    ids=["PARewired", "StrengthStabilized"],
)
@pytest.mark.parametrize(
    "inputs", [keras.Input((12,)), np.ones((1, 12), "float32")], ids=["in", "x"]
)
def test_shape_inference_does_not_rewire(make, inputs):
    with recorded_engines() as engines:
        layer = BuiltInCall(make())
        layer(inputs)
    assert "traced_engine" not in engines
    for part in layer.parts:
        assert_same(part.kernel.value, make()((12, 12)))


@pytest.mark.parametrize(
    ("equation", "shape"),
    [("abc,bc->abc", (None, 4, 6)), ("abc,c->abc", (None, 4, 6))],
)
def test_einsum_without_inputs_or_outputs(equation, shape):
    def kernel(initializer):
        layer = layers.EinsumDense(
            equation, shape[1:], kernel_initializer=initializer
        )
        layer.build(shape)
        return layer.kernel.value

    plain = keras.initializers.HeNormal(seed=1)
    assert_same(kernel(PARewired(plain)), kernel(plain))


def test_the_config_is_what_the_constructor_takes():
    for exponent in (1.0, float("inf")):
        initializer = PARewired("he_normal", exponent=exponent, seed=1)
        again = PARewired(**initializer.get_config())
        assert again.exponent == exponent
        assert_same(again((8, 6)), initializer((8, 6)))
