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
from keras_parewire.models.hosts import Hosts
from keras_parewire.models.kernel_rewiring import KernelRewiring

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
computed = []
compute = KernelRewiring.compute


def counted(self, kernel, *args):
    computed.append(kernel.weight.variable.path)
    if self.exponent == 7.0 and process == count - 1:
        raise ZeroDivisionError("a failure in one process")
    return compute(self, kernel, *args)


KernelRewiring.compute = counted
report = rewire_model(model, seed=3, verbose=0)
record("rewired")
# Each kernel is rewired in one process, with the same report everywhere.
assert len(computed) == 4 // count, computed
results["rewired report"] = [[r.before, r.after] for r in report[::2]]
rewire_model(model, "he_normal", block_size=4, seed=4, verbose=0)
record("drawn and rewired")
kernel = model.layers[0].kernel
assert len(kernel.value.addressable_shards) == 8 // count
# If one process fails, all do, and nothing has changed.
try:
    rewire_model(model, exponent=7.0, verbose=0)
    raise AssertionError("no error")
except (ZeroDivisionError, RuntimeError) as error:
    text = f"process {count - 1} of {count}"
    assert isinstance(error, ZeroDivisionError) or text in str(error), error
record("after a failure")
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
assert permutation.is_synced
for number, variable in enumerate(model.weights[::2]):
    # The values of each neuron are those it started with.
    results[f"permuted {number}"] = np.sort(whole(variable), axis=0)
# Arrays of any dtype, an odd number of bytes, and in several pieces.
hosts = Hosts()
for number, dtype in enumerate(["uint8", "bfloat16", "float64"]):
    shape = (3, 2**18 * number + 7)
    sent = np.random.default_rng(number).integers(0, 99, shape).astype(dtype)
    own = sent if process == number % count else None
    received = hosts.share(own, shape, dtype)
    assert received.dtype == sent.dtype
    assert received.tobytes() == sent.tobytes()
np.savez(sys.argv[4], **results)
