"""Optimizers that start from copies of the weights, and may go back to them."""

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers

from keras_parewire import reinitialize, rewire_model


def make_model(name="schedule_free"):
    # Two layers of equal weights, whose copies must not be mixed up.
    parts = [layers.LayerNormalization(name=f"norm{i}") for i in range(2)]
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, "tanh", name="first"),
            *parts,
            layers.Dense(4, name="last"),
        ]
    )
    free = keras.optimizers.ScheduleFreeAdamW(0.01)
    optimizers = {
        "schedule_free": free,
        "scaled": keras.optimizers.LossScaleOptimizer(free),
        "adam": keras.optimizers.Adam(0.01, use_ema=True),
    }
    model.compile(optimizers[name], "mse")
    return model


def train(model, steps=1):
    weights, optimizer = model.trainable_variables, model.optimizer
    optimizer.build(weights)
    for _ in range(steps):
        gradients = [keras.ops.sin(3 * weight) for weight in weights]
        if keras.backend.backend() != "jax":
            optimizer.apply(gradients, weights)
            continue
        both = weights + optimizer.variables
        values = [variable.value for variable in both]
        training, state = values[: len(weights)], values[len(weights) :]
        training, state = optimizer.stateless_apply(state, gradients, training)
        for variable, value in zip(both, training + state, strict=True):
            variable.assign(value)


def redraw(model):
    train(model, steps=5)
    reinitialize(model, seed=1)


def redraw_partly(model):
    model.optimizer.build(model.trainable_variables)
    reinitialize(model, seed=1, layers=["last"])


def rewire(model):
    model.optimizer.build(model.trainable_variables)
    rewire_model(model, seed=1)


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("schedule_free", redraw),
        ("schedule_free", redraw_partly),
        ("schedule_free", rewire),
        ("scaled", redraw),
        ("scaled", rewire),
        ("adam", redraw),
    ],
)
def test_training_starts_from_the_new_weights(optimizer, change):
    model, new = make_model(optimizer), make_model(optimizer)
    change(model)
    new.set_weights(model.get_weights())
    for trained in (model, new):
        train(trained)
    for one, other in zip(model.weights, new.weights, strict=True):
        np.testing.assert_allclose(
            as_array(one), as_array(other), rtol=1e-5, atol=1e-6
        )


def by_layer():
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.1))
    optimizers[".*last.*"] = keras.optimizers.SGD(0.1, momentum=0.9)
    return keras.optimizers.MultiOptimizer(optimizers)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        keras.optimizers.ScheduleFreeAdamW,
        by_layer,
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        lambda: keras.optimizers.Adagrad(gradient_accumulation_steps=2),
    ],
)
@pytest.mark.parametrize("freeze", [False, True])
def test_optimizers_of_any_weights_become_new(make_optimizer, freeze):
    """Of those of two layers out of four, in another order, one frozen."""
    model = make_model()
    weights = [*model.layers[3].weights, *model.layers[2].weights]
    model.other = optimizer = make_optimizer()
    optimizer.build(weights)
    for variable in optimizer.variables:
        if variable.name != "learning_rate":
            variable.assign(variable + 1)
    model.layers[2].trainable = not freeze
    reinitialize(model, seed=1)
    new = make_optimizer()
    new.build(weights)
    for one, other in zip(optimizer.variables, new.variables, strict=True):
        assert_same(as_array(one), as_array(other))


class Lookahead(keras.optimizers.Optimizer):
    """Wraps an optimizer, and copies the weights; has no config."""

    def __init__(self, inner, period):
        super().__init__(learning_rate=0.0)
        self.inner, self.period, self.slow = inner, period, []

    def build(self, variables):
        super().build(variables)
        self.inner.build(variables)
        for variable in variables:
            slow = self.add_variable_from_reference(variable, name="slow")
            slow.assign(variable)
            self.slow.append(slow)

    @property
    def variables(self):
        return super().variables + self.inner.variables


class WithoutConfig(keras.optimizers.SGD):
    """As Keras' docs write one: its `build` has no guard."""

    def __init__(self, start, **kwargs):
        super().__init__(0.01, **kwargs)
        self.start = start

    def build(self, variables):
        keras.optimizers.Optimizer.build(self, variables)
        self.slots = {
            variable.path: self.add_variable(
                variable.shape, keras.initializers.Constant(self.start)
            )
            for variable in variables
        }


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Has no `get_config`."""

    def __call__(self, step):
        return 0.01 * keras.ops.minimum(1.0, keras.ops.cast(step, "float32"))


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda: keras.optimizers.Adam(WarmUp()),
        lambda: keras.optimizers.Adagrad(lambda: 0.01, use_ema=True),
        lambda: keras.optimizers.Nadam(WarmUp(), gradient_accumulation_steps=2),
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.ScheduleFreeAdamW(lambda: 0.01), initial_scale=8.0
        ),
        lambda: keras.optimizers.Muon(WarmUp()),
        lambda: Lookahead(keras.optimizers.Ftrl(WarmUp()), 5),
        lambda: WithoutConfig(2.0),
        lambda: keras.optimizers.MultiOptimizer(
            lambda variable: WithoutConfig(3.0, name="of_one")
        ),
    ],
)
def test_only_the_variables_of_optimizers_matter(make_optimizer):
    """They become new where the optimizer or its schedule has no config."""
    model = make_model()
    model.other = optimizer = make_optimizer()
    weights = model.trainable_variables
    optimizer.build(weights)
    variables = [v for v in optimizer.variables if v.name != "learning_rate"]
    for variable in variables:
        variable.assign(variable + 1)
    attributes = dict(vars(optimizer))
    before = list(map(id, optimizer.variables))
    reinitialize(model, seed=1)
    assert list(map(id, optimizer.variables)) == before
    assert all(vars(optimizer)[key] is each for key, each in attributes.items())
    new = make_optimizer()
    new.build(weights)
    expected = [v for v in new.variables if v.name != "learning_rate"]
    for one, other in zip(variables, expected, strict=True):
        assert_same(as_array(one), as_array(other))
    rewire_model(model, seed=0)  # It has taken no step.


class Early(keras.optimizers.SGD):
    """Makes a variable before its `build`."""

    def __init__(self):
        super().__init__(0.1)
        self.scale = keras.Variable(2.0)


def test_an_optimizer_that_makes_variables_early():
    model = make_model()
    model.other = Early()
    model.other.build(model.trainable_variables[:1])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"in its `build`.* of type Early"):
        reinitialize(model, seed=1)
    for one, other in zip(before, model.get_weights(), strict=True):
        assert_same(one, other)


def test_the_learning_rate_stays():
    model = make_model("adam")
    train(model)
    model.optimizer.learning_rate = 0.123
    reinitialize(model, seed=1)
    assert float(model.optimizer.learning_rate) == np.float32(0.123)
    assert int(model.optimizer.iterations) == 0
