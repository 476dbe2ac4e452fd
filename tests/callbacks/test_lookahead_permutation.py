import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same, bits
from keras import layers, ops

from keras_parewire import LookaheadPermutation, PARewired, reinitialize

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 12), np.float32)
Y = RNG.standard_normal((40, 3), np.float32)
STEPS = 10  # Of an epoch, in batches of 4.


def make_model(optimizer=None, wrap=lambda base: base, **options):
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
    model.compile(optimizer or keras.optimizers.Adam(0.02), "mse", **options)
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
    assert_same_weights_as(one, weights(other))


def assert_same_weights_as(model, values):
    for a, b in zip(weights(model), values, strict=True):
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
        if self.permutation.is_synced():
            step = int(ops.convert_to_numpy(self.model.optimizer.iterations))
            self.steps.append(step)

    def on_test_begin(self, logs=None):
        self.at_validation.append(self.permutation.is_synced())


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


@pytest.mark.slow
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
    assert not permutation.is_synced()
    synced(permutation)
    assert permutation.is_synced()
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


@pytest.mark.any_backend
@pytest.mark.slow
def test_attention_heads():
    x = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3)
    model = keras.Model(x, attention(x, x))
    model.compile(keras.optimizers.Adam(0.02), "mse")
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
    assert permutation.is_synced()
    for a, b in zip(weights(synced(permutation)), before, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_stay_as_they_are(value):
    model = make_model()
    permutation = started(LookaheadPermutation(1), model)
    first, last = model.layers[0].kernel, model.layers[-1].kernel
    first.assign(first * 2.0)
    last.assign(last * 0 + value)
    before = weights(model)
    with pytest.warns(UserWarning, match=r"NaN or infinite.*dense.*kernel"):
        permutation.on_train_end()
    assert not permutation.is_synced()
    assert_same_weights_as(model, before)


@pytest.mark.any_backend
@pytest.mark.parametrize("period", [1, 4, 1000])
@pytest.mark.parametrize("permutation_first", [True, False])
def test_terminate_on_nan(period, permutation_first):
    class Explode(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                kernel = self.model.layers[-1].kernel
                kernel.assign(kernel * np.nan)

    permutation = LookaheadPermutation(period)
    callbacks = [keras.callbacks.TerminateOnNaN(), permutation]
    if permutation_first:
        callbacks.reverse()
    model = make_model()
    with pytest.warns(UserWarning, match="NaN or infinite"):
        history = fit(model, Explode(), *callbacks, epochs=3)
    assert len(history.history["loss"]) == 1
    assert int(as_array(model.optimizer.iterations)) == 4
    assert not permutation.is_synced()


# What is re-ordered.


@pytest.mark.any_backend
def test_biases_and_normalization_are_trained():
    model = make_model()
    before = [as_array(v) for v in model.trainable_variables]
    fit(model, LookaheadPermutation(STEPS))
    for variable, start in zip(model.trainable_variables, before, strict=True):
        values = as_array(variable)
        assert not np.array_equal(values, start)
        kept = np.array_equal(neurons(values, 0), neurons(start, 0))
        assert kept == (variable.name == "kernel")


@pytest.mark.any_backend
def test_include_bias():
    model = make_model()
    before = [as_array(v) for v in model.trainable_variables]
    fit(model, LookaheadPermutation(STEPS, include_bias=True))
    for variable, start in zip(model.trainable_variables, before, strict=True):
        kept = np.array_equal(neurons(as_array(variable), 0), neurons(start, 0))
        assert kept == (variable.name in ("kernel", "bias"))


@pytest.mark.any_backend
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


@pytest.mark.any_backend
def test_model_without_kernels():
    permutation = LookaheadPermutation(1, layers=".*/bias")
    with pytest.raises(ValueError, match="must have kernels to re-order"):
        fit(make_model(), permutation)


# When.


def test_syncs_by_global_steps():
    permutation = LookaheadPermutation(4)
    probe = Probe(permutation)
    # Epochs of 10 steps: the count goes on over them.
    losses = fit(make_model(), permutation, probe, epochs=4).history["loss"]
    assert probe.steps == [*range(4, 41, 4)]
    assert losses[-1] < losses[0]


def test_validation_comes_after_the_sync_of_the_same_step():
    permutation = LookaheadPermutation(2 * STEPS)
    probe = Probe(permutation)
    model = make_model()
    fit(model, permutation, probe, epochs=2, validation_data=(X, Y))
    assert probe.at_validation == [False, True]


def test_training_goes_on_from_the_synced_weights():
    # The same, by hand: two steps, a sync, two steps.
    model = make_model(keras.optimizers.SGD(0.05, momentum=0.9))
    permutation = LookaheadPermutation(2, sync_at_end=False)
    fit(model, permutation, steps_per_epoch=3)
    by_hand = make_model(keras.optimizers.SGD(0.05, momentum=0.9))
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
    assert not permutation.is_synced()
    synced(permutation)
    assert permutation.is_synced()
    for variable, values in zip(model.optimizer.variables, before, strict=True):
        assert_same(variable, values)


@pytest.mark.any_backend
@pytest.mark.parametrize("sync_at_end", [True, False])
def test_sync_at_end(sync_at_end):
    permutation = LookaheadPermutation(7, sync_at_end=sync_at_end)
    fit(make_model(), permutation)
    assert permutation.is_synced() == sync_at_end


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
def test_steps_per_execution_that_does_not_divide():
    model = make_model(steps_per_execution=2)
    with pytest.raises(
        ValueError,
        match=r"`steps_per_execution` must divide .*Received: "
        "steps_per_execution=2, sync_period=5",
    ):
        fit(model, LookaheadPermutation(5), epochs=2)
    assert int(as_array(model.optimizer.iterations)) == 0


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize(
    ("executed", "accumulated", "period", "expected"),
    [
        (2, 2, 1, [*range(1, 11)]),
        (2, 2, 3, [3, 6, 9]),
        # Epochs of 5 steps end within an execution, and so do some periods.
        (4, 2, 2, [2, 4, 7, 9, 10]),
    ],
)
def test_steps_per_execution_with_accumulated_gradients(
    executed, accumulated, period, expected
):
    optimizer = keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=accumulated
    )
    model = make_model(optimizer, steps_per_execution=executed)
    permutation = LookaheadPermutation(period)
    assert sync_steps(model, permutation, epochs=2) == expected


@pytest.mark.backend("tensorflow", "jax")
def test_steps_per_execution_within_an_accumulation():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    model = make_model(optimizer, steps_per_execution=2)
    with pytest.raises(
        ValueError, match=r"sync_period=1, .*gradient_accumulation_steps=3"
    ):
        fit(model, LookaheadPermutation(1))


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
    assert not permutation.is_synced()
    fit(model, permutation)
    permutation.sync_at_end = True
    synced(permutation)
    assert_same_neurons(model.layers[0].kernel, before, 0)


@pytest.mark.any_backend
def test_one_model_only():
    permutation = LookaheadPermutation(4)
    fit(make_model(), permutation)
    with pytest.raises(ValueError, match="make a new one for another"):
        fit(make_model(), permutation)


@pytest.mark.any_backend
def test_weights_drawn_anew_need_new_pools():
    model = make_model()
    permutation = LookaheadPermutation(4)
    fit(model, permutation)
    reinitialize(model, seed=3)
    with pytest.raises(ValueError, match="make a new LookaheadPermutation"):
        fit(model, permutation)


@pytest.mark.any_backend
def test_pools_are_not_taken_between_syncs():
    model = make_model()
    fit(model)
    before = weights(model)
    message = r"a checkpoint made at a sync.* after 10 steps .*sync_period="
    with pytest.raises(ValueError, match=message):
        fit(model, LookaheadPermutation(4))
    assert_same_weights_as(model, before)


class Crash(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(as_array(self.model.optimizer.iterations)) == self.step:
            raise RuntimeError("the machine went down")


def resumable(path, backup_first):
    both = [LookaheadPermutation(5), keras.callbacks.BackupAndRestore(path)]
    return both[::-1] if backup_first else both


def crash(model, step, *callbacks, **options):
    with pytest.raises(RuntimeError, match="the machine went down"):
        fit(model, *callbacks, Crash(step), **options)


@pytest.mark.slow
def test_resumed_run_is_the_uninterrupted_one(tmp_path):
    uninterrupted = make_model()
    fit(uninterrupted, LookaheadPermutation(5), epochs=3)
    for step, backup_first in ((4, False), (19, False), (19, True)):
        path = tmp_path / f"{step}-{backup_first}"
        crash(make_model(), step, *resumable(path, backup_first), epochs=3)
        resumed = make_model()
        if step > STEPS:
            # The initial weights need not be the same: they are restored.
            reinitialize(resumed, seed=9)
        fit(resumed, *resumable(path, backup_first), epochs=3)
        assert_same_weights(resumed, uninterrupted)


# Models and arguments that cannot work.


class OwnStep(keras.Model):
    """Trains its weights without `self.optimizer`, as GANs do."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)

    def loss_of(self, y, prediction):
        return ops.mean((y - prediction) ** 2)

    def train_step(self, *arguments):
        backend = keras.backend.backend()
        return getattr(self, f"{backend}_step")(*arguments)

    def torch_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.loss_of(y, self(x))
        loss.backward()
        for variable in self.trainable_variables:
            variable.assign(variable.value - 0.01 * variable.value.grad)
        return {"loss": loss}

    def tensorflow_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.loss_of(y, self(x))
        values = [variable.value for variable in self.trainable_variables]
        gradients = tape.gradient(loss, values)
        for value, gradient in zip(values, gradients, strict=True):
            value.assign_sub(0.01 * gradient)
        return {"loss": loss}

    def jax_step(self, state, data):
        import jax

        x, y = data
        trained, others, *rest = state

        def loss_of(trained):
            prediction, _ = self.stateless_call(trained, others, x)
            return self.loss_of(y, prediction)

        loss, gradients = jax.value_and_grad(loss_of)(trained)
        trained = jax.tree.map(lambda v, g: v - 0.01 * g, trained, gradients)
        return {"loss": loss}, (trained, others, *rest)


@pytest.mark.parametrize("period", [1, 1000])
def test_a_model_that_steps_another_optimizer(period):
    model = OwnStep()
    model.compile("adam", "mse")
    model(X)
    start = as_array(model.dense.kernel).copy()
    permutation = LookaheadPermutation(period)
    with pytest.raises(
        ValueError, match=r"steps of `model\.optimizer` time the syncs, but"
    ):
        fit(model, permutation, epochs=2)
    assert not permutation.is_synced()
    assert not np.array_equal(neurons(model.dense.kernel, 0), neurons(start, 0))


def test_a_model_without_an_optimizer():
    model = make_model()
    model.optimizer = None
    permutation = LookaheadPermutation(4)
    permutation.set_model(model)
    with pytest.raises(ValueError, match=r"must have an opt.*optimizer=None"):
        permutation.on_train_begin()


def test_a_model_built_by_fit():
    """Only TensorFlow's `fit` builds models after it calls the callbacks."""
    model = keras.Sequential([layers.Dense(4), layers.Dense(3)])
    model.compile("adam", "mse")
    permutation = LookaheadPermutation(4)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="must be built"):
            fit(model, permutation)
    else:
        fit(model, permutation)
        assert permutation.is_synced()


@pytest.mark.any_backend
def test_is_synced_before_fit():
    with pytest.raises(ValueError, match="has not been trained with"):
        _ = LookaheadPermutation(1).is_synced()


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("period", "error"), [(0, ValueError), (2.5, TypeError), (None, TypeError)]
)
def test_periods_out_of_range(period, error):
    with pytest.raises(error, match=r"`sync_period` must be.*Received"):
        LookaheadPermutation(period)


# With the rest of the package.


@pytest.mark.any_backend
def test_training_from_a_rewired_start():
    plain, rewired = make_model(), make_model(wrap=PARewired)
    assert_permutation(plain.layers[0].kernel, rewired.layers[0].kernel)
    start = as_array(rewired.layers[0].kernel)
    assert (start != as_array(plain.layers[0].kernel)).any()
    fit(rewired, LookaheadPermutation(STEPS), epochs=2)
    assert_same_neurons(rewired.layers[0].kernel, start, 0)
    assert_permutation(plain.layers[0].kernel, rewired.layers[0].kernel)
