"""The axes in use, against what reaches what in the layers themselves."""

import fnmatch
import inspect
import warnings

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers

from keras_parewire import register_axes, rewire_model, strength_report
from keras_parewire.models.kernels import survey_model
from keras_parewire.models.layer_axes import AXES_OF_LAYERS
from keras_parewire.rewiring.matrix_view import matrix_view

pytestmark = pytest.mark.any_backend

CONV = {"kernel_size": 2, "use_bias": False}

# Layers of one kernel, and the shape of their input without the batch.
LAYERS = {
    "Dense": (lambda: layers.Dense(3), (4,)),
    "Dense of a sequence": (lambda: layers.Dense(3), (2, 4)),
    "EinsumDense": (lambda: layers.EinsumDense("ab,bc->ac", 3), (4,)),
    "EinsumDense, query": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (2, 4),
    ),
    "EinsumDense, attention output": (
        lambda: layers.EinsumDense("abde,dec->abc", (None, 3)),
        (2, 2, 2),
    ),
    "EinsumDense, batch letter": (
        lambda: layers.EinsumDense("abc,bcd->abd", (2, 3)),
        (2, 4),
    ),
    "EinsumDense, mixed order": (
        lambda: layers.EinsumDense("abc,dbc->abd", (2, 3)),
        (2, 4),
    ),
    "EinsumDense, ellipsis": (
        lambda: layers.EinsumDense("...x,yx->...y", 3),
        (2, 4),
    ),
    "Conv1D": (lambda: layers.Conv1D(3, **CONV), (4, 2)),
    "Conv1D, groups": (lambda: layers.Conv1D(4, groups=2, **CONV), (4, 4)),
    "Conv2D": (lambda: layers.Conv2D(2, strides=2, **CONV), (4, 4, 2)),
    "Conv2D, groups": (lambda: layers.Conv2D(6, groups=2, **CONV), (3, 3, 4)),
    "Conv3D": (lambda: layers.Conv3D(2, **CONV), (2, 3, 2, 2)),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(3, **CONV), (4, 2)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(3, **CONV), (3, 3, 2)),
    "Conv3DTranspose": (
        lambda: layers.Conv3DTranspose(2, **CONV),
        (2, 2, 3, 2),
    ),
    "DepthwiseConv1D": (
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=2),
        (3, 3),
    ),
    "DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(2, depth_multiplier=3),
        (3, 3, 2),
    ),
}
if hasattr(layers, "TernaryDense"):  # New in Keras 3.16.
    # The layer computes with signs. They change only where a weight passes the
    # threshold, which `reach` makes any do that is 0.
    LAYERS["TernaryDense"] = (
        lambda: layers.TernaryDense(3, 0.25, kernel_initializer="zeros"),
        (4,),
    )

# The same for one step of recurrent layers; the shape of their state, and how
# many gates there are.
CELLS = {
    "SimpleRNNCell": (lambda: layers.SimpleRNNCell(3), (4,), (3,), 1),
    "LSTMCell": (lambda: layers.LSTMCell(3), (4,), (3,), 4),
    "GRUCell": (lambda: layers.GRUCell(3), (4,), (3,), 3),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(2, 2), (4, 3), (3, 2), 4),
    "ConvLSTM2D": (lambda: layers.ConvLSTM2D(2, 2), (3, 3, 2), (2, 2, 2), 4),
    "ConvLSTM3D": (
        lambda: layers.ConvLSTM3D(1, 2),
        (3, 3, 3, 1),
        (2, 2, 2, 1),
        4,
    ),
}


def view_of(layer, name):
    """The view of a weight, and the weight."""
    for item in survey_model(layer, [layer]).weights:
        if item.weight.variable.name == name:
            return item.view, item.weight.variable
    raise AssertionError(f"no weight {name}")


def reach(function, kernel, shape):
    """Which weight leads from which input to which output.

    A boolean array `(weights, inputs, outputs)`: what a change of the weight
    changes in the output when only that input is on.
    """
    count = int(np.prod(shape))
    single = np.eye(count, dtype="float32").reshape(count, *shape)
    values = as_array(kernel).copy()
    plain = as_array(function(single)).reshape(count, -1)
    found = []
    for place in np.ndindex(values.shape):
        changed = values.copy()
        changed[place] += 0.5
        kernel.assign(changed)
        outputs = as_array(function(single)).reshape(count, -1)
        found.append(np.abs(outputs - plain) > 1e-5)
    kernel.assign(values)
    # An input that is off, or a bias, is no way through.
    return np.stack(found)


def assert_true(view, found, gates=1):
    """Asserts that the matrices of a view are those of the layer.

    An output sums over one column, of each gate. Where two outputs see the same
    inputs, their weights of one row come from the same of them.
    """
    stack = view.to_stack(np.arange(len(found)), np)
    groups, inputs, outputs = stack.shape
    units = outputs // gates
    columns = {}
    for group in range(groups):
        for output in range(outputs):
            unit = group, output % units
            columns.setdefault(unit, []).append(stack[group, :, output])
    full = found.any(axis=1)  # Which weights reach an output at all.
    sees = found.any(axis=0)  # From which inputs.
    group_of, rows, fields_of = {}, {}, {}
    for (group, _), members in columns.items():
        expected = np.zeros(len(found), bool)
        expected[np.concatenate(members)] = True
        mine = np.flatnonzero((full == expected[:, None]).all(axis=0))
        assert mine.size, "no output sums over this column"
        for output in mine:
            field = sees[:, output].tobytes()
            assert group_of.setdefault(field, group) == group
            for column in members:
                sources = [found[w, :, output].tobytes() for w in column]
                assert len(set(sources)) == inputs
                assert rows.setdefault(field, sources) == sources
        # All outputs of a matrix see the same inputs, place by place ...
        fields = {sees[:, output].tobytes() for output in mine}
        assert fields_of.setdefault(group, fields) == fields
    # ... and those of no other matrix do.
    assert len(set(group_of.values())) == groups


@pytest.mark.parametrize("name", LAYERS)
def test_axes_are_true(name):
    make, shape = LAYERS[name]
    layer = make()
    layer.build((None, *shape))
    view, kernel = view_of(layer, "kernel")
    assert_true(view, reach(layer, kernel, shape))


@pytest.mark.parametrize("wrong", [([0], [1, 2]), ([0, 1], [2]), ([2], [1])])
def test_false_axes_are_found_out(wrong):
    layer = layers.EinsumDense("abc,dbc->abd", (2, 3))
    layer.build((None, 2, 4))
    found = reach(layer, layer.kernel, (2, 4))
    with pytest.raises(AssertionError):
        assert_true(matrix_view(layer.kernel.shape, *wrong, 1), found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernel", "recurrent_kernel"])
@pytest.mark.parametrize("cell", CELLS)
def test_axes_of_recurrent_layers_are_true(cell, name):
    make, shape, state_shape, gates = CELLS[cell]
    layer = make()
    layer.build((None, 2, *shape) if "Conv" in cell else (None, *shape))
    view, kernel = view_of(layer, name)
    states = 2 if "LSTM" in cell else 1
    draw = np.random.default_rng(0).uniform
    inputs = draw(0.2, 1, (1, *shape)).astype("float32")
    state = draw(0.2, 1, (1, *state_shape)).astype("float32")

    def step(single):
        x, h = (
            (single, np.repeat(state, len(single), 0))
            if name == "kernel"
            else (np.repeat(inputs, len(single), 0), single)
        )
        rest = [np.repeat(state, len(single), 0)] * (states - 1)
        outputs, _ = getattr(layer, "cell", layer)(x, [h, *rest])
        return outputs

    found = reach(step, kernel, shape if name == "kernel" else state_shape)
    assert_true(view, found, gates)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["depthwise_kernel", "pointwise_kernel"])
@pytest.mark.parametrize("rank", [1, 2])
def test_axes_of_separable_convolutions_are_true(rank, which):
    shape = (3,) * rank + (2,)
    multiplier = 2 if which == "depthwise_kernel" else 1
    filters = 4 if which == "depthwise_kernel" else 3
    make = getattr(layers, f"SeparableConv{rank}D")
    layer = make(filters, 2, depth_multiplier=multiplier, use_bias=False)
    layer.build((None, *shape))
    if which == "depthwise_kernel":
        # What the depthwise step gives goes out as it is.
        eye = np.eye(filters).reshape(layer.pointwise_kernel.shape)
        layer.pointwise_kernel.assign(eye)
    view, kernel = view_of(layer, which)
    assert_true(view, reach(layer, kernel, shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.MultiHeadAttention(2, 3), (3, 5)),
        (
            lambda: layers.MultiHeadAttention(2, 3, attention_axes=(1, 2)),
            (2, 2, 5),
        ),
        (lambda: layers.GroupQueryAttention(2, 4, 2), (3, 5)),
    ],
)
def test_axes_of_attention_are_true(make, shape):
    layer = make()
    layer(np.ones((1, *shape)), np.ones((1, *shape)))
    tested = 0
    for item in survey_model(layer).weights:
        weight = item.weight
        if weight.variable.name == "kernel":
            projection = weight.layer
            inner = projection.get_build_config()["input_shape"][1:]
            inner = [2 if size is None else size for size in inner]
            found = reach(projection, weight.variable, inner)
            assert_true(item.view, found)
            tested += 1
    assert tested == 4


# How to build the layers that cannot be built from nothing or on any input:
# `(layer, inputs)`, where the inputs are the shapes that it is called on.
SEQUENCE = (1, 3, 4)
IMAGE = (1, 4, 4, 4)
EXAMPLES = {
    "AdditiveAttention": (layers.AdditiveAttention, [SEQUENCE] * 2),
    "Attention": (lambda: layers.Attention(use_scale=True), [SEQUENCE] * 2),
    "Bidirectional": (lambda: layers.Bidirectional(layers.GRU(2)), SEQUENCE),
    "Conv3D": (lambda: layers.Conv3D(2, 2), (1, 3, 3, 3, 2)),
    "Conv3DTranspose": (lambda: layers.Conv3DTranspose(2, 2), (1, 3, 3, 3, 2)),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(2, 2), IMAGE),
    "ConvLSTM2D": (lambda: layers.ConvLSTM2D(2, 2), (1, 2, 4, 4, 2)),
    "ConvLSTM3D": (lambda: layers.ConvLSTM3D(2, 2), (1, 2, 3, 3, 3, 2)),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cd->abd", (3, 3), bias_axes="bd"),
        SEQUENCE,
    ),
    "GRUCell": (lambda: layers.RNN(layers.GRUCell(2)), SEQUENCE),
    "GroupNormalization": (lambda: layers.GroupNormalization(2), IMAGE),
    "GroupedQueryAttention": (
        lambda: layers.GroupQueryAttention(2, 2, 1),
        (SEQUENCE, SEQUENCE),
    ),
    "LSTMCell": (lambda: layers.RNN(layers.LSTMCell(2)), SEQUENCE),
    "LayerNormalization": (lambda: layers.LayerNormalization([1, 2]), SEQUENCE),
    "MultiHeadAttention": (
        lambda: layers.MultiHeadAttention(2, 2),
        (SEQUENCE, SEQUENCE),
    ),
    "PReLU": (layers.PReLU, IMAGE),
    "RNN": (lambda: layers.RNN(layers.SimpleRNNCell(2)), SEQUENCE),
    "ReversibleEmbedding": (
        lambda: layers.ReversibleEmbedding(5, 3, tie_weights=False),
        (1, 3),
    ),
    "STFTSpectrogram": (
        lambda: layers.STFTSpectrogram(frame_length=8, frame_step=4),
        (1, 32, 1),
    ),
    "SimpleRNNCell": (lambda: layers.RNN(layers.SimpleRNNCell(2)), SEQUENCE),
    "SpectralNormalization": (
        lambda: layers.SpectralNormalization(layers.Dense(2)),
        SEQUENCE,
    ),
    "StackedRNNCells": (
        lambda: layers.RNN([layers.GRUCell(2), layers.LSTMCell(2)]),
        SEQUENCE,
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.Dense(2)),
        SEQUENCE,
    ),
}

# What these hold is none of Keras' own.
FOREIGN = """FlaxLayer JaxLayer Lambda Layer Pipeline TFSMLayer
TorchModuleWrapper Wrapper""".split()

# These hold no weights.
WEIGHTLESS = """*Cropping* *Dropout* *Encoding *Lookup *Pooling* *Resizing
Activation ActivityRegularization Add Aug* AutoContrast Average CenterCrop
Concatenate CutMix Discretization Dot ELU *Equalization Flatten Gaussian* Hash*
Identity InputLayer LeakyReLU Masking Max* MelSpectrogram Minimum MixUp Multiply
Permute Rand* ReLU RepeatVector Rescaling Reshape Softmax Solarization Subtract
TextVectorization UnitNormalization UpSampling* ZeroPadding*""".split()

EXPORTED = {
    layer.__name__: layer
    for layer in vars(layers).values()
    if inspect.isclass(layer) and issubclass(layer, keras.layers.Layer)
}


def build(name):
    """A layer of an exported class with its weights."""
    if name not in EXAMPLES:
        layer = EXPORTED[name](
            **{
                argument.name: 2
                for argument in inspect.signature(
                    EXPORTED[name]
                ).parameters.values()
                if argument.default is argument.empty
                and argument.kind is argument.POSITIONAL_OR_KEYWORD
            }
        )
        layer(np.ones(IMAGE if "2D" in name else SEQUENCE, "float32"))
        return layer
    make, shapes = EXAMPLES[name]
    layer = make()
    if isinstance(shapes[0], int):
        layer(np.ones(shapes))
    elif isinstance(shapes, tuple):
        layer(*map(np.ones, shapes))
    else:
        layer(list(map(np.ones, shapes)))
    return layer


def check_exported_layers(names):
    """Fails if nothing is known of a layer; warns if its Keras is a nightly."""
    unknown = []
    for name in names:
        if any(fnmatch.fnmatchcase(name, p) for p in WEIGHTLESS + FOREIGN):
            continue
        try:
            layer = build(name)
        except Exception as error:
            unknown.append(f"{name}, of which `build` says {error!r}")
            continue
        rows = strength_report(layer) if layer.weights else ()
        if any("unknown" in (row.skipped or "") for row in rows):
            unknown.append(name)
    if unknown:
        message = f"Keras {keras.__version__} has unknown layers: {unknown}"
        assert "dev" in keras.__version__, message
        warnings.warn(message, stacklevel=1)


@pytest.mark.slow
# Other warnings stay errors.
@pytest.mark.filterwarnings("default:Keras .* has unknown layers:UserWarning")
def test_every_exported_layer_is_known():
    # A class that is new in Keras is found here if it has a weight of rank 2 or
    # more of which nothing is known, or if `build` cannot build it.
    check_exported_layers(EXPORTED)


def test_an_unknown_layer_fails_on_released_keras(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    monkeypatch.delitem(AXES_OF_LAYERS, layers.Conv1D)
    with pytest.raises(AssertionError, match=r"unknown layers: \['Conv1D'\]"):
        check_exported_layers(["Dense", "Conv1D"])


def test_an_unknown_layer_warns_on_the_nightly(monkeypatch):
    class Later(layers.Layer):
        def __init__(self):
            raise TypeError("no such argument")

    monkeypatch.setattr(keras, "__version__", "3.99.0.dev2026112504")
    monkeypatch.delitem(AXES_OF_LAYERS, layers.Conv1D)
    monkeypatch.setitem(EXPORTED, "Later", Later)
    with pytest.warns(UserWarning, match=r"\['Conv1D', .Later, .*TypeError"):
        check_exported_layers(["Dense", "Conv1D", "Later"])
    # At run time it is skipped, for a reason that names it.
    layer = layers.Conv1D(3, 2)
    layer.build((None, 4, 2))
    before = as_array(layer.kernel)
    with pytest.warns(UserWarning, match="register_axes.*of Conv1D"):
        report = rewire_model(layer, seed=0, verbose=0)
    [reason] = [row.skipped for row in report if row.path.endswith("kernel")]
    assert reason == "unknown layer Conv1D, see `register_axes`"
    assert_same(layer.kernel, before)


class Bilinear(layers.Layer):
    """Five matrices of its own, and one that only looks like it."""

    def build(self, input_shape):
        self.weight = self.add_weight(
            name="weight", shape=(5, input_shape[-1], 3)
        )
        self.table = self.add_weight(name="table", shape=(4, 4))

    def call(self, inputs):
        return keras.ops.einsum("bki,kij->bkj", inputs, self.weight)


@pytest.fixture
def custom(monkeypatch):
    monkeypatch.setattr(
        "keras_parewire.models.kernel_axes.AXES_OF_LAYERS", dict(AXES_OF_LAYERS)
    )
    layer = Bilinear()
    layer.build((None, 5, 4))
    return layer


def test_custom_layers_are_skipped(custom):
    reason = "unknown layer Bilinear, see `register_axes`"
    assert [row.skipped for row in strength_report(custom)] == [reason] * 2


def test_register_axes(custom):
    register_axes(Bilinear, lambda layer: {"weight": ([1], [2])})
    view, kernel = view_of(custom, "weight")
    assert_true(view, reach(custom, kernel, (5, 4)))
    first, second = strength_report(custom)
    assert (first.inputs, first.outputs, first.groups) == (4, 3, 5)
    assert second.skipped == "not a kernel of Bilinear"


def test_register_axes_with_blocks(custom):
    register_axes(Bilinear, lambda layer: {"weight": ([1], [2], 3)})
    row = strength_report(custom)[0]
    assert (row.inputs, row.outputs, row.groups) == (4, 1, 15)


def test_registered_axes_hold_for_subclasses_and_inner_layers(custom):
    class Sub(Bilinear):
        pass

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Bilinear()

        def build(self, input_shape):
            self.inner.build(input_shape)

    register_axes(Outer, lambda layer: {"weight": ([1], [2])})
    outer = Outer()
    outer.build((None, 5, 4))
    assert strength_report(outer)[0].groups == 5
    register_axes(Bilinear, lambda layer: {"weight": ([0, 1], [2])})
    sub = Sub()
    sub.build((None, 5, 4))
    assert strength_report(sub)[0].groups == 1
    # The layer's own class knows better than the one around it.
    assert strength_report(outer)[0].groups == 1


def test_depthwise_kernels_can_be_registered(monkeypatch):
    monkeypatch.setattr(
        "keras_parewire.models.kernel_axes.AXES_OF_LAYERS", dict(AXES_OF_LAYERS)
    )
    layer = layers.DepthwiseConv2D(3)
    layer.build((None, 8, 8, 4))
    assert "depthwise" in strength_report(layer)[0].skipped
    register_axes(
        layers.DepthwiseConv2D, lambda layer: {"kernel": ([0, 1], [2, 3])}
    )
    row = strength_report(layer)[0]
    assert (row.inputs, row.outputs, row.groups) == (9, 4, 1)


@pytest.mark.parametrize(
    ("axes", "error", "text"),
    [
        (None, TypeError, "must return a dict .* Bilinear: None"),
        ({"weight": 3}, TypeError, "Bilinear: {'weight': 3}"),
        ({"weight": ([1], [2], 0)}, ValueError, "with 1 group or more"),
        ({"weight": ([1], [2], "a")}, TypeError, "with 1 group or more"),
        ({"weight": ([1],)}, TypeError, "weight names to"),
        (
            {"weight": ([1], [2], 2)},
            ValueError,
            "must divide .*2.*/weight",
        ),
        ({"weight": ([1], [1])}, ValueError, "must name each axis once"),
        (
            {"weight": ([1], [3])},
            ValueError,
            "of rank 3",
        ),
        ({"weight": ([1], [])}, ValueError, "must each name at least one axis"),
        ({"wieght": ([1], [2])}, ValueError, "are .*'weight'].*'wieght'"),
    ],
)
def test_wrong_axes(custom, axes, error, text):
    register_axes(Bilinear, lambda layer: axes)
    with pytest.raises(error, match=text):
        rewire_model(custom)


def test_register_axes_checks_its_arguments():
    with pytest.raises(TypeError, match=r"subclass .* layer_class='Dense'"):
        register_axes("Dense", lambda layer: {})
    with pytest.raises(
        TypeError, match="must be a function that takes a layer"
    ):
        register_axes(Bilinear, {"weight": ([1], [2])})
