"""Models that others wrote."""

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same
from test_rewire_model import values

from keras_parewire import reinitialize, rewire_model

pytestmark = pytest.mark.slow

# One of each kind: the others have more of the same layers.
APPLICATIONS = ["EfficientNetB0", "MobileNetV3Small"]


def assert_rewired(model):
    before = values(model)
    report = rewire_model(model, seed=0, verbose=0)
    rewired = 0
    for row, variable in zip(report, model.weights, strict=True):
        now, old = as_array(variable), before.pop(id(variable))
        if row.skipped is None:
            assert_permutation(now, old)
            if min(row.inputs, row.outputs) > 1:
                rewired += 1
                assert not np.array_equal(now, old)
        else:
            assert_same(now, old)
    assert rewired
    return report


def make_application(name):
    return getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )


def assert_nothing_is_unknown(report):
    reasons = {row.skipped.split(":")[0] for row in report if row.skipped}
    assert reasons <= {"bias", "normalization", "depthwise"}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    assert_nothing_is_unknown(assert_rewired(make_application(name)))


@pytest.mark.any_backend
def test_weights_without_names():
    # All sizes of ConvNeXt have Keras' `LayerScale`, whose weights have none.
    model = make_application("ConvNeXtTiny")
    report = rewire_model(model, layers=".*downsampling.*", seed=0)
    assert {row.skipped for row in report} == {
        None,
        "bias",
        "vector",
        "normalization",
        "not among `layers`",
    }
    scale = next(v for v in model.weights if "layer_scale" in v.path)
    scale.assign(as_array(scale) + 1)
    reinitialize(model, layers=".*layer_scale.*", seed=1)
    assert (as_array(scale) < 0.1).all()


@pytest.mark.any_backend
def test_a_head_is_rewired_too():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=10
    )
    report = assert_rewired(model)
    assert_nothing_is_unknown(report)
    done = [row for row in report if row.skipped is None]
    assert (done[-1].inputs, done[-1].outputs) == (1280, 10)


TEXT = {
    "vocabulary_size": 100,
    "num_layers": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
HUB = {
    "BertBackbone": {**TEXT, "num_heads": 2, "max_sequence_length": 16},
    "GPT2Backbone": {**TEXT, "num_heads": 2, "max_sequence_length": 16},
    "GemmaBackbone": {
        **TEXT,
        "num_query_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "LlamaBackbone": {
        **TEXT,
        "num_query_heads": 4,
        "num_key_value_heads": 2,
    },
    "ViTBackbone": {
        "image_shape": (32, 32, 3),
        "patch_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 32,
        "mlp_dim": 64,
    },
}
# The inputs and outputs of the kernels in one of the two blocks.
PLAIN = [(32, 32)] * 4 + [(32, 64), (64, 32)]
GROUPED = [(32, 32), (32, 16), (32, 16), (32, 32)]
BLOCKS = {
    "BertBackbone": PLAIN,
    "GPT2Backbone": PLAIN,
    "GemmaBackbone": [*GROUPED, (32, 32), (32, 32), (32, 32)],
    "LlamaBackbone": [*GROUPED, (32, 64), (32, 64), (64, 32)],
    "ViTBackbone": PLAIN,
}
# Outside the blocks: what embeds the patches, pools the sentence, or is the
# untied output projection.
OUTSIDE = {
    "ViTBackbone": [(192, 32)],
    "BertBackbone": [(32, 32)],
    "LlamaBackbone": [(32, 100)],
}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", HUB)
def test_keras_hub(name):
    keras_hub = pytest.importorskip("keras_hub")
    model = getattr(keras_hub.models, name)(**HUB[name])
    report = assert_rewired(model)
    done = [(row.inputs, row.outputs) for row in report if row.skipped is None]
    assert sorted(done) == sorted(2 * BLOCKS[name] + OUTSIDE.get(name, []))
    # Tables of tokens and places, and vectors for the class, are told by names.
    reasons = {row.skipped for row in report if row.skipped}
    assert reasons <= {"bias", "normalization", "vector", "embedding"}
    before = values(model)
    reinitialize(model, seed=0)
    for row, variable in zip(report, model.weights, strict=True):
        if row.skipped is None:
            assert not np.array_equal(as_array(variable), before[id(variable)])
