import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same, bits
from keras import layers, ops

from keras_parewire import (
    LookaheadPermutation,
    PARewired,
    random_prune,
    reinitialize,
    share_value,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 12), np.float32)
Y = RNG.standard_normal((40, 3), np.float32)
STEPS = 10  # Of an epoch, in batches of 4.


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.02),
}


def make_model(optimizer="adam", wrap=lambda base: base, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(
                16,
                "relu",
                kernel_initializer=wrap("he_uniform"),
                bias_initializer="he_uniform",
            ),
            layers.BatchNormalization(),
            layers.Dense(3, kernel_initializer="he_uniform"),
        ]
    )
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS[optimizer]()
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, *callbacks, epochs=1, **options):
    return model.fit(
        X,
        Y,
        4,
        epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **options,
    )


def weights(model):
    return [np.array(as_array(v)) for v in model.variables]


def assert_same_weights(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        assert_same(a, b)


def started(callback, model):
    """The callback as it is when the model's training starts."""
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback


def synced(callback):
    callback.on_train_end()
    return callback.model


def neurons(kernel, *axes):
    """A kernel's bits, sorted over the given axes: those of the inputs."""
    stack = np.moveaxis(bits(kernel), axes, range(len(axes)))
    return np.sort(stack.reshape(-1, *stack.shape[len(axes) :]), axis=0)


def assert_same_neurons(one, other, *axes):
    np.testing.assert_array_equal(neurons(one, *axes), neurons(other, *axes))


class Probe(keras.callbacks.Callback):
    """Notes after which steps the kernels are a re-ordering, and when not."""

    def __init__(self, permutation):
        super().__init__()
        self.permutation, self.steps, self.at_validation = permutation, [], []

    def on_train_batch_end(self, batch, logs=None):
        if self.permutation.is_synced:
            step = int(ops.convert_to_numpy(self.model.optimizer.iterations))
            self.steps.append(step)

    def on_test_begin(self, logs=None):
        self.at_validation.append(self.permutation.is_synced)


def sync_steps(model, permutation, **options):
    probe = Probe(permutation)
    fit(model, permutation, probe, **options)
    return probe.steps


# The sync itself.


def test_worked_example():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    kernel = model.layers[0].kernel
    kernel.assign(np.array([[3, 10], [1, 30], [2, 20]], "float32"))
    model.compile("sgd", "mse")
    permutation = started(LookaheadPermutation(1), model)
    kernel.assign(np.array([[0.1, 0.5], [0.9, 0.4], [0.3, 0.6]], "float32"))
    synced(permutation)
    np.testing.assert_array_equal(as_array(kernel), [[1, 20], [3, 10], [2, 30]])


SPARSE = np.where(RNG.random((6, 4)) < 0.5, 0, RNG.standard_normal((6, 4)))
SIGNED_ZEROS = np.where(RNG.random((6, 4)) < 0.5, -0.0, SPARSE)

KERNELS = {
    "Dense": ((6,), lambda: layers.Dense(4), (0,)),
    "Conv1D": ((8, 3), lambda: layers.Conv1D(4, 3), (0, 1)),
    "Conv2D": ((6, 6, 3), lambda: layers.Conv2D(4, 3), (0, 1, 2)),
    "Conv3D": ((4, 4, 4, 2), lambda: layers.Conv3D(4, 3), (0, 1, 2, 3)),
    "grouped": ((6, 6, 4), lambda: layers.Conv2D(4, 3, groups=2), (0, 1, 2)),
    "transposed": (
        (4, 4, 3),
        lambda: layers.Conv2DTranspose(5, 3),
        (0, 1, 3),
    ),
    "EinsumDense": (
        (5, 4),
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (0,),
    ),
    "batch letter": (
        (5, 4),
        lambda: layers.EinsumDense("abc,bcd->abd", (5, 3)),
        (1,),
    ),
    "LSTM": (
        (5, 4),
        lambda: layers.LSTM(3, recurrent_initializer="he_normal"),
        (0,),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_neuron_keeps_its_weights(name, dtype):
    shape, make, axes = KERNELS[name]
    model = keras.Sequential([keras.Input(shape, dtype=dtype)])
    with_dtype = make()
    config = {**with_dtype.get_config(), "dtype": dtype}
    model.add(type(with_dtype).from_config(config))
    model.compile("sgd", "mse")
    kernel = model.trainable_variables[0]
    initial = as_array(kernel)
    permutation = started(LookaheadPermutation(1), model)
    trained = RNG.standard_normal(initial.shape).astype(initial.dtype)
    kernel.assign(trained)
    assert not permutation.is_synced
    synced(permutation)
    assert permutation.is_synced
    assert_same_neurons(kernel, initial, *axes)
    # They are in the order of the trained weights, neuron by neuron.
    order = np.argsort(
        np.moveaxis(trained, axes, range(len(axes))).reshape(
            -1, trained.size // neurons(trained, *axes).shape[0]
        ),
        axis=0,
        kind="stable",
    )
    result = np.moveaxis(as_array(kernel), axes, range(len(axes))).reshape(
        order.shape
    )
    in_order = np.take_along_axis(result, order, axis=0).astype("float32")
    assert (np.diff(in_order, axis=0) >= 0).all()
    again = as_array(kernel)
    assert_same(synced(permutation).trainable_variables[0], again)


def test_attention_heads():
    x = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3)
    model = keras.Model(x, attention(x, x))
    model.compile(OPTIMIZERS["adam"](), "mse")
    initial = {v.path: as_array(v) for v in model.trainable_variables}
    data = RNG.standard_normal((8, 5, 6), np.float32)
    permutation = LookaheadPermutation(100)
    model.fit(data, data, 4, 3, verbose=0, callbacks=[permutation])
    for variable in model.trainable_variables:
        if variable.name != "kernel":
            continue
        axes = (0, 1) if "attention_output" in variable.path else (0,)
        assert_same_neurons(variable, initial[variable.path], *axes)
        assert not np.array_equal(as_array(variable), initial[variable.path])


@pytest.mark.parametrize("start", [SPARSE, SIGNED_ZEROS, np.zeros((6, 4))])
def test_untouched_model_stays_bit_for_bit(start):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    model.layers[0].kernel.assign(start.astype("float32"))
    model.compile("sgd", "mse")
    before = weights(model)
    assert_same(before[0], start.astype("float32"))
    permutation = started(LookaheadPermutation(1), model)
    assert permutation.is_synced
    for a, b in zip(weights(synced(permutation)), before, strict=True):
        assert_same(a, b)


def test_nan_weights_are_an_error_that_changes_nothing():
    model = make_model()
    permutation = started(LookaheadPermutation(1), model)
    first, last = model.layers[0].kernel, model.layers[-1].kernel
    first.assign(first * 2.0)
    last.assign(last * np.nan)
    before = weights(model)
    assert not permutation.is_synced
    with pytest.raises(ValueError, match=r"finite.*48 NaN"):
        synced(permutation)
    for a, b in zip(weights(model), before, strict=True):
        assert_same(a, b)


# What is re-ordered.


def test_biases_and_normalization_are_trained():
    model = make_model()
    before = [as_array(v) for v in model.trainable_variables]
    fit(model, LookaheadPermutation(STEPS))
    for variable, start in zip(model.trainable_variables, before, strict=True):
        values = as_array(variable)
        assert not np.array_equal(values, start)
        kept = np.array_equal(neurons(values, 0), neurons(start, 0))
        assert kept == (variable.name == "kernel")


def test_include_bias():
    model = make_model()
    before = [as_array(v) for v in model.trainable_variables]
    fit(model, LookaheadPermutation(STEPS, include_bias=True))
    for variable, start in zip(model.trainable_variables, before, strict=True):
        kept = np.array_equal(neurons(as_array(variable), 0), neurons(start, 0))
        assert kept == (variable.name in ("kernel", "bias"))


def test_layers():
    model = make_model()
    last = model.layers[-1]
    before = [as_array(v) for v in model.trainable_variables]
    fit(model, LookaheadPermutation(STEPS, layers=[last], include_bias=True))
    kept = {
        variable.path
        for variable, start in zip(
            model.trainable_variables, before, strict=True
        )
        if np.array_equal(neurons(as_array(variable), 0), neurons(start, 0))
    }
    assert kept == {last.kernel.path, last.bias.path}


def test_model_without_kernels():
    permutation = LookaheadPermutation(1, layers=lambda layer: False)
    with pytest.raises(ValueError, match="must have kernels to re-order"):
        fit(make_model(), permutation)


# When.


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_syncs_by_global_steps(optimizer):
    model = make_model(optimizer)
    # Epochs of 10 steps: the count goes on over them.
    permutation = LookaheadPermutation(4)
    losses = fit(model, permutation, epochs=8).history["loss"]
    assert losses[-1] < losses[0]
    permutation = LookaheadPermutation(4)
    assert sync_steps(make_model(), permutation, epochs=3) == [*range(4, 31, 4)]


def test_period_of_the_epoch():
    permutation = LookaheadPermutation(lambda epoch: (2, 5, 7)[epoch])
    steps = sync_steps(make_model(), permutation, epochs=3)
    assert steps == [2, 4, 6, 8, 10, 15, 20, 21, 28]


def test_validation_comes_after_the_sync_of_the_same_step():
    permutation = LookaheadPermutation(2 * STEPS)
    probe = Probe(permutation)
    model = make_model()
    fit(model, permutation, probe, epochs=4, validation_data=(X, Y))
    assert probe.at_validation == [False, True, False, True]


def test_training_goes_on_from_the_synced_weights():
    # The same, by hand: two steps, a sync, two steps.
    model = make_model("sgd")
    permutation = LookaheadPermutation(2, sync_at_end=False)
    fit(model, permutation, steps_per_epoch=3)
    by_hand = make_model("sgd")
    permutation = started(LookaheadPermutation(2), by_hand)
    for step in range(3):
        batch = slice(4 * step, 4 * step + 4)
        by_hand.train_on_batch(X[batch], Y[batch])
        if step == 1:
            synced(permutation)
    for one, other in zip(weights(model), weights(by_hand), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_optimizer_state_is_not_touched():
    model = make_model()
    permutation = LookaheadPermutation(1000, sync_at_end=False)
    fit(model, permutation)
    permutation.sync_at_end = True
    before = [as_array(v) for v in model.optimizer.variables]
    assert not permutation.is_synced
    synced(permutation)
    assert permutation.is_synced
    for variable, values in zip(model.optimizer.variables, before, strict=True):
        assert_same(variable, values)


@pytest.mark.parametrize("sync_at_end", [True, False])
def test_sync_at_end(sync_at_end):
    permutation = LookaheadPermutation(7, sync_at_end=sync_at_end)
    fit(make_model(), permutation)
    assert permutation.is_synced == sync_at_end


@pytest.mark.backend("tensorflow", "jax")
def test_steps_per_execution():
    model = make_model(steps_per_execution=2)
    permutation = LookaheadPermutation(4)
    assert sync_steps(model, permutation, epochs=2) == [4, 8, 12, 16, 20]
    # Epochs of 10 steps end within an execution of 4: the sync is at its end.
    model = make_model(steps_per_execution=4)
    permutation = LookaheadPermutation(8)
    assert sync_steps(model, permutation, epochs=2) == [8, 18]


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("period", [5, lambda epoch: 4 + epoch])
def test_steps_per_execution_that_does_not_divide(period):
    model = make_model(steps_per_execution=2)
    with pytest.raises(
        ValueError,
        match=r"`steps_per_execution` must divide `sync_period`.*"
        "Received: steps_per_execution=2, sync_period=5 in epoch [01]",
    ):
        fit(model, LookaheadPermutation(period), epochs=2)
    assert int(as_array(model.optimizer.iterations)) == 0


def test_accumulated_gradients_count_as_one_step():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    permutation = LookaheadPermutation(3)
    steps = sync_steps(make_model(optimizer), permutation, epochs=2)
    assert sorted(set(steps)) == [0, 3, 6, 9]


# Pools.


def test_pools_are_kept_when_fit_is_called_again():
    model = make_model()
    before = as_array(model.layers[0].kernel)
    permutation = LookaheadPermutation(4, sync_at_end=False)
    fit(model, permutation)
    assert not permutation.is_synced
    fit(model, permutation)
    permutation.sync_at_end = True
    synced(permutation)
    assert_same_neurons(model.layers[0].kernel, before, 0)


def test_one_model_only():
    permutation = LookaheadPermutation(4)
    fit(make_model(), permutation)
    with pytest.raises(ValueError, match="make a new one for another"):
        fit(make_model(), permutation)


def test_weights_drawn_anew_need_new_pools():
    model = make_model()
    permutation = LookaheadPermutation(4)
    fit(model, permutation)
    reinitialize(model, seed=3)
    with pytest.raises(ValueError, match="make a new LookaheadPermutation"):
        fit(model, permutation)


def test_trained_model_needs_pools():
    model = make_model()
    fit(model)
    with pytest.raises(
        ValueError, match=r"call `load_pools`.*after 10 steps of its optimizer"
    ):
        fit(model, LookaheadPermutation(4))


class Crash(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(as_array(self.model.optimizer.iterations)) == self.step:
            raise RuntimeError("the machine went down")


def resumable(tmp_path, backup_first=False):
    permutation = LookaheadPermutation(4)
    path = tmp_path / "run" / "pools.npz"
    if path.exists():
        permutation.load_pools(path)
    else:
        permutation.save_pools(path)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "run" / "backup")
    both = [permutation, backup]
    return both[::-1] if backup_first else both


@pytest.mark.parametrize(
    ("optimizer", "backup_first", "step"),
    [
        ("sgd", False, 2 * STEPS),
        ("adam", False, STEPS + 5),
        ("adam", True, STEPS + 5),
    ],
)
def test_resumed_run_is_the_uninterrupted_one(
    tmp_path, optimizer, backup_first, step
):
    uninterrupted = make_model(optimizer)
    fit(uninterrupted, LookaheadPermutation(4), epochs=4)

    with pytest.raises(RuntimeError, match="the machine went down"):
        fit(
            make_model(optimizer),
            *resumable(tmp_path, backup_first),
            Crash(step),
            epochs=4,
        )
    resumed = make_model(optimizer)
    # The initial weights need not be the same: they are restored.
    reinitialize(resumed, seed=9)
    fit(resumed, *resumable(tmp_path, backup_first), epochs=4)
    assert_same_weights(resumed, uninterrupted)


def test_restored_weights_make_no_pools(tmp_path):
    callbacks = resumable(tmp_path)
    with pytest.raises(RuntimeError):
        fit(make_model(), *callbacks, Crash(15), epochs=2)
    (tmp_path / "run" / "pools.npz").unlink()
    for backup_first in (True, False):
        permutation, model = LookaheadPermutation(4), make_model()
        permutation.save_pools(tmp_path / "run" / "pools.npz")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "run" / "backup")
        both = [permutation, backup]
        for _ in range(2):  # A second try does not get through either.
            with pytest.raises(ValueError, match="call `load_pools`"):
                fit(model, *(both[::-1] if backup_first else both), epochs=2)
        assert not (tmp_path / "run" / "pools.npz").exists()


def test_pools_of_other_initial_weights(tmp_path):
    permutation = LookaheadPermutation(4)
    fit(make_model(), permutation)
    permutation.save_pools(tmp_path / "pools")
    assert [path.name for path in tmp_path.iterdir()] == ["pools"]
    permutation = LookaheadPermutation(4)
    permutation.load_pools(tmp_path / "pools")
    fit(make_model(), permutation)

    other = make_model()
    reinitialize(other, seed=5)
    permutation = LookaheadPermutation(4)
    permutation.load_pools(tmp_path / "pools")
    with pytest.raises(ValueError, match="the model's initial weights"):
        fit(other, permutation)
    permutation = LookaheadPermutation(4, include_bias=True)
    permutation.load_pools(tmp_path / "pools")
    with pytest.raises(ValueError, match=r"2 pools of other.* 4 weights"):
        fit(make_model(), permutation)


def test_is_synced_before_fit():
    with pytest.raises(ValueError, match="`fit` has not been called"):
        _ = LookaheadPermutation(1).is_synced


@pytest.mark.parametrize(
    ("period", "error"), [(0, ValueError), (2.5, TypeError), (None, TypeError)]
)
def test_periods_out_of_range(period, error):
    with pytest.raises(error, match=r"`sync_period` must be.*Received"):
        LookaheadPermutation(period)
    with pytest.raises(error, match=r"`sync_period\(epoch\)` must be"):
        fit(make_model(), LookaheadPermutation(lambda epoch: period))


# With the rest of the package.


def test_training_from_a_rewired_start():
    plain, rewired = make_model(), make_model(wrap=PARewired)
    assert_permutation(plain.layers[0].kernel, rewired.layers[0].kernel)
    start = as_array(rewired.layers[0].kernel)
    assert (start != as_array(plain.layers[0].kernel)).any()
    fit(rewired, LookaheadPermutation(STEPS), epochs=2)
    assert_same_neurons(rewired.layers[0].kernel, start, 0)
    assert_permutation(plain.layers[0].kernel, rewired.layers[0].kernel)


def kernels(model):
    return [as_array(model.layers[i].kernel) for i in (0, -1)]


def test_random_prune():
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(64), layers.Dense(32)]
    )
    before = kernels(model)
    random_prune(model, 0.3, seed=0)
    for kernel, start, keep in zip(
        kernels(model), before, (0.8, 0.3), strict=True
    ):
        assert abs((kernel != 0).mean() - keep) < 0.04
        assert_same(kernel[kernel != 0], start[kernel != 0])
        assert_same(kernel[kernel == 0], np.zeros_like(kernel[kernel == 0]))
    # The same places on every backend, in every version.
    mask = "".join(map(str, (kernels(model)[1][0] != 0).astype(int)))
    assert mask == "00110010000000000010000000000011"


def test_sparsity_of_each_neuron_is_conserved():
    model = make_model()
    random_prune(model, 0.3, seed=0)
    before = kernels(model)
    fit(model, LookaheadPermutation(4), epochs=3)
    moved = 0
    for kernel, start in zip(kernels(model), before, strict=True):
        np.testing.assert_array_equal(
            (kernel != 0).sum(axis=0), (start != 0).sum(axis=0)
        )
        moved += ((kernel != 0) != (start != 0)).sum()
    assert moved


def test_first_layer_keep():
    model = make_model()
    random_prune(model, 0.3, seed=0, first_layer_keep=0.1)
    assert 0.2 < (kernels(model)[0] != 0).mean() < 0.4
    model = make_model()
    before = kernels(model)
    random_prune(model, 1.0, seed=0)
    for kernel, start in zip(kernels(model), before, strict=True):
        assert_same(kernel, start)


def test_share_value():
    model = make_model()
    others = weights(model)[1:-2]
    share_value(model, 0.08, 0.6, seed=0)
    shared = kernels(model)
    for kernel in shared:
        assert set(np.unique(kernel)) == {0, np.float32(0.08)}
        assert abs((kernel != 0).mean() - 0.6) < 0.15
    for one, other in zip(weights(model)[1:-2], others, strict=True):
        assert_same(one, other)
    fit(model, LookaheadPermutation(4), epochs=2)
    for kernel, start in zip(kernels(model), shared, strict=True):
        assert_same_neurons(kernel, start, 0)
    other = make_model()
    share_value(other, 0.08, 0.6, seed=1)
    assert (kernels(other)[0] != shared[0]).any()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda m: random_prune(m, 0.0, seed=0), ValueError, "`keep` must be"),
        (lambda m: random_prune(m, 1.5, seed=0), ValueError, "keep=1.5"),
        (
            lambda m: random_prune(m, 0.5, seed=0, first_layer_keep=2),
            ValueError,
            "`first_layer_keep` must be",
        ),
        (lambda m: random_prune(m, "a", seed=0), TypeError, "`keep` must be a"),
        (lambda m: random_prune(m, 0.5, seed="a"), TypeError, "`seed`"),
        (
            lambda m: share_value(m, np.inf, 0.5, seed=0),
            ValueError,
            "`value` must be finite",
        ),
        (lambda m: share_value(m, 1, -1, seed=0), ValueError, "keep=-1"),
        (lambda m: share_value(m, 0, 0.5, seed=0), ValueError, "not 0"),
        (lambda m: share_value(m, 1e60, 0.5, seed=0), ValueError, "value=1e"),
        (lambda m: share_value(m, "1", 0.5, seed=0), TypeError, "value='1'"),
    ],
)
def test_arguments_out_of_range(change, error, text):
    model = make_model()
    before = weights(model)
    with pytest.raises(error, match=text):
        change(model)
    for a, b in zip(weights(model), before, strict=True):
        assert_same(a, b)


def test_a_trained_model_is_an_error():
    model = make_model()
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    with pytest.raises(ValueError, match="before it is trained"):
        random_prune(model, 0.5, seed=0)
    with pytest.raises(ValueError, match="before it is trained"):
        share_value(model, 0.1, 0.5, seed=0)


def test_a_file_without_pools(tmp_path):
    (tmp_path / "pools.npz").write_text("no pools")
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("pools.npz", "array.npy"):
        with pytest.raises(ValueError, match=f"`save_pools` has.*{name}"):
            LookaheadPermutation(1).load_pools(tmp_path / name)


def test_pruning_is_all_or_nothing():
    model = make_model()
    model.layers[-1].kernel.assign(model.layers[-1].kernel * np.nan)
    before = weights(model)
    with pytest.raises(ValueError, match="NaN"):
        random_prune(model, 0.5, seed=0)
    for a, b in zip(weights(model), before, strict=True):
        assert_same(a, b)
