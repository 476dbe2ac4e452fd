"""One process of a job: `python train.py PROCESSES PROCESS PORT OUTPUT`.

Eight devices in all, on a mesh of 4 x 2, so that every kernel spans all of
them. Saves what each step leaves in the model.
"""

import sys

import jax
import keras
import numpy as np
from keras import layers

from keras_parewire import (
    ChannelAverage,
    LookaheadPermutation,
    PARewired,
    StrengthStabilized,
    reinitialize,
    rewire_model,
    strength_report,
    strengths,
)

count, process, port = map(int, sys.argv[1:4])
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(f"127.0.0.1:{port}", count, process)
mesh = keras.distribution.DeviceMesh(
    (4, 2), ["batch", "model"], keras.distribution.list_devices("cpu")
)
layout_map = keras.distribution.LayoutMap(mesh)
layout_map[".*kernel"] = ("batch", "model")
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(
        layout_map=layout_map,
        batch_dim_name="batch",
        auto_shard_dataset=False,
    )
)
keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input((16,)),
        layers.Dense(32, "relu", kernel_initializer=PARewired(seed=1)),
        layers.Dense(24, kernel_initializer=StrengthStabilized(seed=2)),
        layers.Dense(16, kernel_initializer=ChannelAverage()),
        layers.Dense(8),
    ]
)
results = {}


def whole(variable):
    layout = keras.distribution.TensorLayout([None] * len(variable.shape), mesh)
    return np.array(
        keras.distribution.distribute_tensor(variable.value, layout)
    )


def record(step):
    for number, variable in enumerate(model.weights):
        results[f"{step} {number}"] = whole(variable)


record("initialized")
kernel = model.layers[0].kernel
assert len(kernel.value.addressable_shards) == 8 // count
results["strengths"] = np.concatenate(strengths(kernel))
results["report"] = [row.before for row in strength_report(model)[::2]]
report = rewire_model(model, seed=3, verbose=0)
record("rewired")
results["rewired report"] = [[r.before, r.after] for r in report[::2]]
reinitialize(model, kernel_initializer=PARewired("he_normal"), seed=4)
record("drawn and rewired")
kernel = model.layers[0].kernel
assert len(kernel.value.addressable_shards) == 8 // count
reinitialize(model, seed=5)
record("reinitialized")
# Keras cannot save variables that span hosts, but a plain copy of the model.
weights = [whole(variable) for variable in model.weights]
distribution = keras.distribution.distribution()
keras.distribution.set_distribution(None)
if count > 1:
    try:
        strengths(kernel)
        raise AssertionError("no error")
    except ValueError as error:
        assert "set_distribution" in str(error), error
copy = keras.models.clone_model(model)
copy.set_weights(weights)
path = f"{sys.argv[4]}.keras"
copy.save(path)
loaded = keras.models.load_model(path)
for number, value in enumerate(loaded.get_weights()):
    results[f"loaded {number}"] = value
    assert (value == weights[number]).all()
keras.distribution.set_distribution(distribution)
# Every process has all of the data: the same batches for any number of them.
x = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")
share = x[process * 8 // count : (process + 1) * 8 // count]
model.compile("sgd", "mse")
permutation = LookaheadPermutation(sync_period=1)
model.fit(share, share[:, :8], 8 // count, 3, 0, callbacks=[permutation])
assert permutation.is_synced()
for number, variable in enumerate(model.weights[::2]):
    # The values of each neuron are those it started with.
    results[f"permuted {number}"] = np.sort(whole(variable), axis=0)
np.savez(sys.argv[4], **results)
