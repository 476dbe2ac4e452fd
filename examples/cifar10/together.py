"""Trains a network from several starts at once, as one program on JAX.

All runs of a study see the same batches, so their weights are stacked, and one
step trains them all. On an accelerator this costs less than one run after the
other where a single network is too small to use it in full.
"""

import jax
import jax.numpy as jnp
import keras

from cifar10.trainer import CURVES, ORDER_SEED, Trainer, epoch_orders, measure


class TogetherTrainer(Trainer):
    """Trains as `Trainer` does, up to rounding, but several runs at once.

    Args:
        *args: As `Trainer` takes them.
        together: How many runs one program trains.
    """

    def __init__(self, *args, together):
        super().__init__(*args)
        self.together = together
        self._program = self._make_program()

    def train_all(self, runs):
        """Trains several runs, at most `together`.

        Args:
            runs: List of pairs of an arm and a seed.

        Returns:
            A list with a dict of numbers for each, as `train` returns it.
        """
        measured, trainable, state = [], [], []
        for arm, seed in runs:
            keras.utils.set_random_seed(seed)
            network = self.make_model()
            if arm is not None:
                arm(network, seed=seed)
            measured.append(measure(network))
            self._restore(ORDER_SEED)
            trainable.append(_values(self.model.trainable_variables))
            state.append(_values(self.model.non_trainable_variables))
        # Fewer runs than usual would be another program.
        missing = self.together - len(runs)
        trainable = _stack(trainable + trainable[:1] * missing)
        state = [
            jnp.stack(values + values[:1] * missing) if own else values[0]
            for own, *values in zip(self._own, *state, strict=True)
        ]
        optimizer = _stack(
            [_values(self.model.optimizer.variables)] * self.together
        )
        train, evaluate = self._program
        curves = {curve: [] for curve in CURVES}
        for order in epoch_orders(
            self.data.train, self.epochs, self.steps * self.batch_size
        ).reshape(self.epochs, self.steps, self.batch_size):
            steps = []
            for batch in order:
                (trainable, state, optimizer), step = train(
                    trainable, state, optimizer, batch, self.data.labels[batch]
                )
                steps.append(step)
            found = [
                jnp.stack(v).mean(axis=0) for v in zip(*steps, strict=True)
            ]
            found.append(
                self._evaluate(evaluate, trainable, state, self.data.validation)
            )
            for curve, values in zip(CURVES, found, strict=True):
                curves[curve].append(values.tolist())
        test = self._evaluate(evaluate, trainable, state, self.data.test)
        return [
            {
                **{
                    f"epoch_{epoch}_{curve}": values[run]
                    for curve in CURVES
                    for epoch, values in enumerate(curves[curve], 1)
                },
                "test_accuracy": test[run].item(),
                **measured[run],
            }
            for run in range(len(runs))
        ]

    def _make_program(self):
        model, optimizer = self.model, self.model.optimizer
        of_network = {id(v) for v in model.network.weights}
        # Each run has its own statistics, all share images and random states.
        self._own = [id(v) in of_network for v in model.non_trainable_variables]
        axes = [0 if own else None for own in self._own]

        def loss(trainable, state, number, label):
            logits, state = model.stateless_call(
                trainable, state, number, training=True
            )
            losses = keras.losses.sparse_categorical_crossentropy(
                label, logits, from_logits=True
            )
            return losses.mean(), (state, _share_correct(label, logits))

        def step(trainable, state, slots, number, label):
            differentiate = jax.value_and_grad(loss, has_aux=True)
            (value, (state, accuracy)), gradients = differentiate(
                trainable, state, number, label
            )
            trainable, slots = optimizer.stateless_apply(
                slots, gradients, trainable
            )
            return (trainable, state, slots), (value, accuracy)

        train = jax.vmap(step, (0, axes, 0, None, None), ((0, axes, 0), (0, 0)))

        def share(trainable, state, number, label):
            logits, _ = model.stateless_call(
                trainable, state, number, training=False
            )
            return _share_correct(label, logits)

        evaluate = jax.vmap(share, (0, axes, None, None))
        # Not a whole epoch: on a CPU, convolutions are slow within a loop.
        return jax.jit(train, donate_argnums=(0, 2)), jax.jit(evaluate)

    def _evaluate(self, evaluate, trainable, state, numbers):
        """Returns the share of images that each run names correctly."""
        batches = numbers.reshape(-1, self.eval_batch_size)
        found = [
            evaluate(trainable, state, batch, self.data.labels[batch])
            for batch in batches
        ]
        return jnp.mean(jnp.stack(found), axis=0)


def _values(variables):
    return [variable.value for variable in variables]


def _stack(runs):
    return [jnp.stack(values) for values in zip(*runs, strict=True)]


def _share_correct(label, logits):
    return jnp.mean(jnp.argmax(logits, axis=-1) == label)
