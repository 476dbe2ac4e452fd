import json
import pickle
import re
from unittest import mock

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same
from keras import layers

from keras_parewire import (
    register_axes,
    rewire,
    rewire_model,
    strength_report,
    strength_variance,
)
from keras_parewire.models.kernels import survey_model
from keras_parewire.models.layer_axes import AXES_OF_LAYERS
from keras_parewire.rewiring.seeding import derive_seed

IMAGES = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)


def mixed():
    """A model with most of what rewiring must know of."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="stem")(x)
    x = layers.BatchNormalization()(x)
    x = layers.SpectralNormalization(layers.Conv2D(8, 3, groups=2))(x)
    x = layers.DepthwiseConv2D(2)(x)
    x = layers.SeparableConv2D(6, 2, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(5, 3)(x)
    x = layers.PReLU()(x)
    x = layers.Reshape((16, 5))(x)
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = attention(x, x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    x = layers.LayerNormalization()(x)
    x = layers.GRU(4)(x)
    shared = layers.Dense(4, name="shared")
    x = shared(shared(x))
    x = keras.Sequential([keras.Input((4,)), layers.Dense(7)], name="nest")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def dense_model(**kwargs):
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, **kwargs), layers.Dense(4)]
    )


def values(model):
    return {id(v): as_array(v).copy() for v in model.weights}


def assert_unchanged(model, before):
    for variable in model.weights:
        assert_same(as_array(variable), before[id(variable)])


def test_keeps_values_and_leaves_the_rest():
    model = mixed()
    before = values(model)
    report = rewire_model(model, seed=0)
    assert len(report) == len(model.weights) == len(before)
    assert sum(row.skipped is None for row in report) == 18
    for row, variable in zip(report, model.weights, strict=True):
        assert (row.path, row.shape) == (variable.path, variable.shape)
        after = as_array(variable)
        if row.skipped is None:
            assert_permutation(after, before[id(variable)])
            if min(row.inputs, row.outputs) > 1:
                assert not np.array_equal(after, before[id(variable)])
        else:
            assert_same(after, before[id(variable)])
            assert row.before is row.after is row.inputs is None
    assert {row.skipped for row in report} == {
        None,
        "bias",
        "normalization",
        "activation",
        "depthwise: tiny kernels, channel by channel",
    }


def test_rewires_by_the_rule_of_rewire():
    model = dense_model()
    before = as_array(model.layers[0].kernel).copy()
    row = rewire_model(model, exponent=2.0, seed=5)[0]
    expected = rewire(before, exponent=2.0, seed=derive_seed(5, 0, 0))
    assert_same(model.layers[0].kernel.value, expected)
    assert row.before == strength_variance(before)
    assert row.after == strength_variance(expected)


def test_the_same_on_every_backend():
    model = mixed()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.standard_normal(variable.shape, np.float32))
    with pytest.warns(UserWarning, match="seem to have been trained"):
        report = rewire_model(model, seed=0)
    total = sum(row.after for row in report if row.skipped is None)
    assert total == pytest.approx(FROZEN, rel=1e-12)


# The sum over the strength variances of the test above.
FROZEN = 42.11136388940642


def test_groups_keep_their_values():
    model = keras.Sequential(
        [
            keras.Input((8, 32)),
            layers.Conv1D(64, 3, groups=2),
            layers.EinsumDense("abc,bcd->abd", (6, 3)),
        ]
    )
    conv, dense = (as_array(layer.kernel).copy() for layer in model.layers)
    report = rewire_model(model, seed=0)
    new_conv, new_dense = (as_array(layer.kernel) for layer in model.layers)
    for old, new in zip(
        np.split(conv, 2, axis=-1), np.split(new_conv, 2, axis=-1), strict=True
    ):
        assert_permutation(old, new)
        assert strength_variance(new) < strength_variance(old)
    for old, new in zip(dense, new_dense, strict=True):
        assert_permutation(old, new)
    assert report[0].groups == 2
    halves = [strength_variance(half) for half in np.split(conv, 2, axis=-1)]
    assert report[0].before == pytest.approx(np.mean(halves))


def test_gates_on_request():
    """The recipe of the guide: each gate of a recurrent kernel by itself."""

    class Gated(layers.LSTMCell):
        pass

    gates = ([0], [1], 4)
    register_axes(Gated, lambda cell: dict.fromkeys(RECURRENT, gates))
    model = keras.Sequential([keras.Input((5, 16)), layers.RNN(Gated(8))])
    kernel, recurrent, _ = (as_array(v).copy() for v in model.weights)
    report = rewire_model(model, seed=0)
    for old, new, row in zip(
        (kernel, recurrent), model.weights[:2], report, strict=False
    ):
        for one, other in zip(
            np.split(old, 4, axis=1),
            np.split(as_array(new), 4, axis=1),
            strict=True,
        ):
            assert_permutation(one, other)
        assert row.groups == 4


RECURRENT = ("kernel", "recurrent_kernel")


def test_seeds():
    results = []
    for seed in (0, 0, 1):
        model = dense_model(kernel_initializer=keras.initializers.HeNormal(3))
        rewire_model(model, seed=seed)
        results.append(as_array(model.layers[0].kernel))
    # Though Keras has numbered the layers anew.
    assert_same(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_unseeded_runs_differ_and_can_be_repeated():
    kernel = np.random.default_rng(0).standard_normal((8, 6), np.float32)
    results, seeds = [], []
    for seed in (None, None, "first"):
        model = dense_model()
        model.layers[0].kernel.assign(kernel)
        seed = seeds[0] if seed == "first" else seed
        seeds.append(rewire_model(model, seed=seed).seed)
        results.append(as_array(model.layers[0].kernel))
    assert not np.array_equal(results[0], results[1])
    assert_same(results[0], results[2])


def test_seed_generators():
    generator = keras.random.SeedGenerator(0)
    seeds = {rewire_model(dense_model(), seed=generator).seed for _ in range(2)}
    assert len(seeds) == 2


def test_layers_of_one_shape_get_noise_of_their_own():
    same = keras.initializers.HeNormal(3)
    model = keras.Sequential([keras.Input((8,))])
    for _ in range(3):
        model.add(layers.Dense(8, kernel_initializer=same))
    rewire_model(model, seed=0)
    kernels = [as_array(layer.kernel) for layer in model.layers]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert_permutation(kernels[one], kernels[other])
        assert not np.array_equal(kernels[one], kernels[other])


def test_a_loaded_model_is_rewired_like_the_saved_one(tmp_path):
    model = mixed()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        rewire_model(one, seed=0)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        assert_same(as_array(one), as_array(other))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (lambda model: lambda layer: layer.name == "head", ["head"]),
        (
            lambda model: lambda layer: isinstance(layer, layers.EinsumDense),
            ["query", "key", "value", "attention_output"],
        ),
        (lambda model: [model.get_layer("head")], ["head"]),
        (lambda model: model.get_layer("head"), ["head"]),
        (lambda model: ["h.*d", "stem"], ["stem", "head"]),
        (lambda model: ["head/kernel", "stem/.*"], ["stem", "head"]),
        (
            lambda model: "attention",
            ["query", "key", "value", "attention_output"],
        ),
        (lambda model: [model.get_layer("nest")], ["nest"]),
    ],
)
def test_chosen_layers(chosen, expected):
    model = mixed()
    before = values(model)
    report = rewire_model(model, layers=chosen(model), seed=0)
    done = [row.path for row in report if row.skipped is None]
    assert len(done) == len(expected)
    for path, name in zip(done, expected, strict=True):
        assert f"{name}/" in path
    for row, variable in zip(report, model.weights, strict=True):
        if row.path not in done:
            assert_same(as_array(variable), before[id(variable)])
    assert "not among `layers`" in {row.skipped for row in report}


def test_embeddings_and_depthwise_kernels_on_request():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(9, 5),
            layers.DepthwiseConv1D(3, depth_multiplier=2),
        ]
    )
    reasons = ["embedding", "depthwise: tiny kernels, channel by channel"]
    for chosen in (None, ".*", lambda layer: True):
        report = rewire_model(model, layers=chosen)
        assert [row.skipped for row in report][:2] == reasons
    report = rewire_model(model, layers=model.layers)
    assert [row.skipped for row in report] == [None, None, "bias"]
    assert (report[1].inputs, report[1].outputs, report[1].groups) == (3, 2, 5)


def test_an_exact_name_asks_for_an_embedding():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Embedding(9, 5, name="emb")]
    )
    for chosen in ("emb", model.weights[0].path):
        assert rewire_model(model, layers=[chosen])[0].skipped is None
    assert rewire_model(model, layers=["em."])[0].skipped == "embedding"


def test_the_depthwise_kernel_of_a_separable_convolution_is_skipped():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.SeparableConv1D(4, 3, depth_multiplier=2, name="separable"),
        ]
    )
    reasons = [row.skipped for row in rewire_model(model)]
    assert reasons[0].startswith("depthwise") and reasons[1] is None
    report = rewire_model(model, layers=["separable"])
    assert report[0].skipped is report[1].skipped is None


def test_an_untied_output_projection_is_a_kernel():
    layer = layers.ReversibleEmbedding(50, 20, tie_weights=False)
    layer(np.ones((1, 3), "int32"))
    table, projection = rewire_model(layer, seed=0)
    assert table.skipped == "embedding"
    assert (projection.inputs, projection.outputs) == (20, 50)
    assert projection.after < projection.before


def test_names_tell_what_weights_of_other_libraries_are():
    class Encoder(layers.Layer):
        def build(self, input_shape):
            for name in names:
                self.add_weight(name=name, shape=(2, 3))

    looked_up = ["embeddings", "pos_embed", "class_token", "register_tokens"]
    names = ["content_attention_bias", *looked_up, "other"]
    layer = Encoder()
    layer.build((None, 3))
    assert [row.skipped for row in strength_report(layer)] == [
        "bias",
        *["embedding"] * 4,
        "unknown layer Encoder, see `register_axes`",
    ]


@pytest.mark.filterwarnings("ignore:`build:UserWarning")
def test_layers_that_are_not_built_have_a_row():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = layers.Dense(4)
            self.spare = keras.Sequential([layers.LSTM(3), layers.ReLU()])

        def call(self, x):
            return self.used(x)

    model = Net()
    model(np.ones((1, 4)))
    for report in (strength_report(model), rewire_model(model)):
        *_, last = report
        assert len(report) == len(model.weights) + 1
        assert last.path.startswith("sequential") and "/lstm" in last.path
        assert (last.shape, last.skipped) == (None, "not built")
        assert "1 not built" in str(report)


def test_remarks_on_kernels_that_hardly_change():
    small = keras.initializers.RandomNormal(stddev=0.001, seed=0)
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(32, kernel_initializer=small),
            layers.Dense(64),
            layers.Dense(1),
        ]
    )
    report = rewire_model(model, seed=0)
    remarks = [row.remark for row in report if row.skipped is None]
    assert "try a larger `exponent`" in remarks[0]
    assert remarks[1] is None
    assert "single neuron" in remarks[2]
    lines = str(report).splitlines()
    assert "try a larger `exponent`" in lines[2] and "`" not in lines[3]
    assert all(row.remark is None for row in strength_report(model))
    strict = rewire_model(model, exponent=1e4, seed=0)
    assert strict[0].remark is None
    again = rewire_model(model, seed=1)
    remarks = [row.remark for row in again if row.skipped is None]
    assert remarks[1] == "rose: was low before"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"layers": ["hed"]},
            ValueError,
            r"Nothing matches 'hed'; the layers are \['dense",
        ),
        ({"layers": [layers.Dense(1)]}, ValueError, "Nothing matches <Dense"),
        (
            {"layers": lambda layer: False},
            ValueError,
            "selects none of the layers that own some, of type .*Dense",
        ),
        ({"layers": [3]}, TypeError, r"patterns .* layers=\[3\]"),
        ({"layers": []}, ValueError, r"at least one layer.* layers=\[\]"),
        ({"layers": 3}, TypeError, "layers=3"),
        ({"layers": layers.Dense}, TypeError, "layers=<class .*Dense'>"),
        ({"exponent": -1}, ValueError, "exponent=-1"),
        ({"seed": 0.5}, TypeError, "seed=0.5"),
        ({"layers": True}, TypeError, "layers=True"),
        ({"seed": True}, TypeError, "seed=True"),
        (
            {"layers": ["*d"]},
            ValueError,
            r"regular expressions.*'\*d'.*nothing to repeat",
        ),
    ],
)
def test_wrong_arguments(arguments, error, text):
    model = dense_model()
    before = values(model)
    with pytest.raises(error, match=text):
        rewire_model(model, **arguments)
    assert_unchanged(model, before)


def test_no_models():
    for function in (rewire_model, strength_report):
        with pytest.raises(TypeError, match="model='dense' of type str"):
            function("dense")
        with pytest.raises(ValueError, match=r"must be built.* built=False"):
            function(keras.Sequential([layers.Dense(3)]))
        with pytest.raises(ValueError, match="built=True, without any"):
            function(keras.Sequential([keras.Input((8,)), layers.Flatten()]))


def test_empty_kernels_are_skipped():
    model = keras.Sequential(
        [keras.Input((0,)), layers.Dense(4), layers.Dense(5)]
    )
    report = rewire_model(model, seed=0)
    assert [row.skipped for row in report] == ["empty", "bias", None, "bias"]


def test_nothing_is_half_done():
    model = mixed()
    kernel = model.get_layer("head").kernel
    broken = as_array(kernel).copy()
    broken[0, 0] = np.nan
    kernel.assign(broken)
    before = values(model)
    with pytest.raises(ValueError, match=r"finite.* head/kernel .* 1 NaN"):
        rewire_model(model, seed=0)
    assert_unchanged(model, before)


def test_a_failing_assignment_is_undone():
    model = dense_model()
    before = values(model)
    last = type(model.layers[1].kernel)
    assign = last.assign

    def failing(variable, value):
        if variable is model.layers[1].kernel and not failed:
            failed.append(True)
            raise KeyboardInterrupt
        return assign(variable, value)

    failed = []
    with mock.patch.object(last, "assign", failing):
        with pytest.raises(KeyboardInterrupt):
            rewire_model(model, seed=0)
    assert failed
    assert_unchanged(model, before)


def test_a_failing_axes_function_leaves_the_model(monkeypatch):
    class Custom(layers.Dense):
        pass

    def fail(layer):
        raise RuntimeError("no idea")

    monkeypatch.setattr(
        "keras_parewire.models.kernel_axes.AXES_OF_LAYERS", dict(AXES_OF_LAYERS)
    )
    register_axes(Custom, fail)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), Custom(3)])
    before = values(model)
    with pytest.raises(RuntimeError, match="no idea"):
        rewire_model(model)
    assert_unchanged(model, before)


def test_a_trained_model_is_an_error():
    model = dense_model()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 8)), np.ones((4, 4)), epochs=2, verbose=0)
    before = values(model)
    with pytest.raises(ValueError, match="after 2 optimizer steps"):
        rewire_model(model)
    assert_unchanged(model, before)
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="seem to have been trained: 2 of its"):
        rewire_model(model)


def test_loaded_weights_are_a_warning(tmp_path):
    model = mixed()
    statistic = model.layers[2].moving_mean
    statistic.assign(as_array(statistic) + 0.5)
    model.save_weights(tmp_path / "pretrained.weights.h5")
    fresh = mixed()
    rewire_model(fresh)
    fresh.load_weights(tmp_path / "pretrained.weights.h5")
    with pytest.warns(UserWarning, match="1 of its .*such as .*moving_mean'"):
        rewire_model(fresh)


def test_a_new_head_on_loaded_weights_is_no_warning():
    model = dense_model()
    loaded, head = model.layers
    loaded.bias.assign(as_array(loaded.bias) + 1)
    rewire_model(model, layers=[head])
    with pytest.warns(UserWarning, match="1 of its biases"):
        rewire_model(model, layers=[loaded])


def test_compiled_functions_see_the_new_weights():
    model = dense_model()
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    x, y = np.ones((4, 8), "float32"), np.zeros((4, 4), "float32")
    old = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)
    state = [as_array(v).copy() for v in model.optimizer.variables]
    rewire_model(model, exponent=0.0, seed=0)
    for one, other in zip(state, model.optimizer.variables, strict=True):
        assert_same(one, as_array(other))
    kernels = [as_array(layer.kernel) for layer in model.layers]
    expected = x @ kernels[0] @ kernels[1]
    new = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(new[0], expected, rtol=1e-5)
    assert not np.allclose(new[0], old[0], rtol=1e-3)
    # A step of training starts from the new weights too.
    model.fit(x, y, verbose=0)
    for layer, kernel in zip(model.layers, kernels, strict=True):
        step = np.abs(as_array(layer.kernel) - kernel)
        assert step.max() == pytest.approx(0.1, rel=1e-3)


def test_lora():
    model = dense_model()
    model.layers[0].enable_lora(2)
    before = values(model)
    report = rewire_model(model, seed=0)
    reasons = {row.path.split("/")[-1]: row.skipped for row in report[:4]}
    assert reasons == {
        "kernel": None,
        "bias": "bias",
        "lora_kernel_a": "LoRA adapter",
        "lora_kernel_b": "LoRA adapter",
    }
    frozen = model.layers[0].non_trainable_variables[0]
    assert_permutation(as_array(frozen), before[id(frozen)])
    assert not frozen.trainable


def test_quantized_kernels_are_skipped():
    model = dense_model()
    model.layers[0].quantize("int8")
    model.layers[1].quantize("int4")
    before = values(model)
    report = rewire_model(model)
    reasons = {row.skipped for row in report}
    assert {"quantized to int8", "quantized to int4"} <= reasons
    assert None not in reasons
    assert_unchanged(model, before)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "float16"])
def test_half_precision(dtype):
    model = dense_model(dtype=dtype)
    before = as_array(model.layers[0].kernel).copy()
    rewire_model(model, seed=0)
    after = model.layers[0].kernel
    assert_permutation(before, as_array(after))
    assert keras.backend.standardize_dtype(after.dtype) == before.dtype


def test_subclassed_models():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(8) for _ in range(2)]
            self.heads = {"a": layers.Dense(3), "b": layers.Dense(5)}
            self.scale = self.add_weight(name="scale", shape=(8, 8))

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return [head(x) for head in self.heads.values()]

    model = Net()
    model(np.ones((1, 4)))
    report = rewire_model(model, seed=0)
    assert sum(row.skipped is None for row in report) == 4
    [scale] = [row for row in report if row.path.endswith("scale")]
    assert scale.skipped == "unknown layer Net, see `register_axes`"


def test_containers_that_hold_themselves():
    class Caching(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)
            self.cache = {}

        def call(self, x):
            return self.dense(x)

    layer = Caching()
    layer(np.ones((1, 3)))
    layer.cache["itself"] = layer.cache
    assert [row.skipped for row in rewire_model(layer)] == [None, "bias"]


def test_owners_are_those_of_keras():
    model = mixed()
    for item in survey_model(model).weights:
        weight, owner = item.weight, item.weight.layer
        assert owner in model._flatten_layers()
        inner = owner._flatten_layers(include_self=False)
        assert all(
            weight.variable is not v for part in inner for v in part.weights
        )


def test_strength_report():
    model = mixed()
    before = values(model)
    report = strength_report(model)
    assert_unchanged(model, before)
    assert report.seed is None
    rewired = rewire_model(model, seed=0)
    for one, other in zip(report, rewired, strict=True):
        assert (one.path, one.skipped) == (other.path, other.skipped)
        assert one.before == one.after == other.before
    for one, other in zip(strength_report(model), rewired, strict=True):
        if one.skipped is None:
            assert one.before == pytest.approx(other.after)


def test_report():
    report = rewire_model(mixed(), seed=3)
    text = str(report)
    assert len(repr(report)) < 80 and "kernels" in repr(report)
    lines = text.splitlines()
    assert report._repr_markdown_() == text
    columns = "path shape inputs outputs groups before after".split()
    assert lines[0].replace("|", "").split()[:7] == columns
    row = r"\| stem/kernel +\| \(3, 3, 3, 8\) +\| 27 +\| 8 +\| 1 +\| \d"
    assert re.match(row, lines[2])
    assert lines[-1].startswith("- skipped: ")
    assert re.search(r"\b7 normalization\b", lines[-1])
    assert pickle.loads(pickle.dumps(report)) == report
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["seed"] == 3
    assert plain["rows"][0]["path"] == report[0].path
    assert len(plain["rows"]) == len(report)


@pytest.mark.any_backend
@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 1), (2, 1)])
def test_progress_bar(capsys, verbose, lines):
    rewire_model(dense_model(), verbose=verbose)
    assert capsys.readouterr().out.count("72/72") == lines


@pytest.mark.backend("jax")
def test_jax_model_parallel(model_parallel):
    def make():
        return keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(
                    128, kernel_initializer=keras.initializers.HeNormal(3)
                ),
            ]
        )

    model = make()
    kernel = model.layers[0].kernel
    before = as_array(kernel).copy()
    sharding = kernel.value.sharding
    assert len(sharding.device_set) == 8 and not sharding.is_fully_replicated
    rewire_model(model, seed=0)
    assert model.layers[0].kernel.value.sharding == sharding
    assert_permutation(before, as_array(kernel))
    keras.distribution.set_distribution(None)
    single = make()
    rewire_model(single, seed=0)
    assert_same(as_array(kernel), as_array(single.layers[0].kernel))


@pytest.mark.backend("tensorflow")
def test_tensorflow_mirrored_strategy():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) == 2
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices])
    with strategy.scope():
        model = dense_model()
    kernel = model.layers[0].kernel
    before = as_array(kernel).copy()
    rewire_model(model, seed=0)
    replicas = strategy.experimental_local_results(kernel.value)
    assert len(replicas) == len(devices)
    for replica in replicas:
        assert_permutation(before, replica.numpy())
        assert_same(replica.numpy(), replicas[0].numpy())


@pytest.mark.backend("torch")
def test_torch_parameters():
    model = dense_model()
    model.layers[1].trainable = False
    parameters = [layer.kernel.value for layer in model.layers]
    about = [(p.requires_grad, p.device, p.data_ptr()) for p in parameters]
    rewire_model(model, seed=0)
    for layer, parameter, known in zip(
        model.layers, parameters, about, strict=True
    ):
        assert layer.kernel.value is parameter
        now = parameter.requires_grad, parameter.device, parameter.data_ptr()
        assert now == known


def test_shared_layers_and_aliases_are_done_once():
    model = mixed()
    variables = [id(i.weight.variable) for i in survey_model(model).weights]
    assert len(variables) == len(set(variables)) == len(model.weights)
