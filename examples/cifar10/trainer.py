"""Training with all images on the device, compiled only once."""

import gc
import math

import keras
import numpy as np
from keras import ops

from cifar10.arms import strength_moments
from cifar10.data import DEVIATION, MEAN
from keras_parewire import reinitialize

SIZE = 32
PADDING = 4
SCHEDULES = ("constant", "cosine", "onecycle", "warmup")
# What is measured in each epoch, by the names of `fit`.
CURVES = ("loss", "accuracy", "val_accuracy")
# The order of the images, the augmentation and the dropout have one seed for
# all runs, so that only the weights differ, except with `--vary-order`.
ORDER_SEED = 0


class OnDevice(keras.Model):
    """A network whose inputs are indices of images that are on its device.

    The images are a weight of this model, not of the network, and are
    gathered, augmented and normalized within the compiled step.
    """

    def __init__(self, network, images):
        super().__init__()
        self.network = network
        pixels = images.reshape(-1, images.shape[-1])
        self.pixels = self.add_weight(
            pixels.shape,
            "zeros",
            dtype="uint8",
            trainable=False,
            name="pixels",
        )
        self.pixels.assign(pixels)
        self.augmentation = keras.random.SeedGenerator(ORDER_SEED)

    def call(self, number, training=False):
        # On JAX, Keras hands `training` no further than to this model.
        return self.network(self.read(number, training), training=training)

    def read(self, number, training=False):
        """Returns normalized images, augmented for training."""
        rows = columns = ops.arange(SIZE)[None]
        if training:
            shape = (ops.shape(number)[0], 1)
            rows = rows + self._shift(shape)
            flip = keras.random.uniform(shape, seed=self.augmentation) < 0.5
            columns = ops.where(flip, SIZE - 1 - columns, columns)
            columns = columns + self._shift(shape)
        inside = _inside(rows)[:, :, None] & _inside(columns)[:, None, :]
        place = number[:, None, None] * SIZE + rows[:, :, None]
        place = place * SIZE + columns[:, None, :]
        pixels = ops.take(self.pixels, ops.where(inside, place, 0), axis=0)
        pixels = ops.where(inside[..., None], ops.cast(pixels, "float32"), 0.0)
        pixels = ops.subtract(pixels / 255.0, MEAN)
        return ops.divide(pixels, DEVIATION)

    def _shift(self, shape):
        return keras.random.randint(
            shape, -PADDING, PADDING + 1, seed=self.augmentation
        )


def _inside(places):
    return (places >= 0) & (places < SIZE)


def schedule(name, learning_rate, steps, warmup_steps=0, long_steps=0):
    """Returns the learning rate of a run of `steps`, as Keras takes it.

    Args:
        name: One of `SCHEDULES`. `warmup` is the start of a long training: a
            linear rise from near 0, in the middle of which `steps` may end, and
            then a cosine.
        learning_rate: The highest learning rate.
        steps: Number of steps of the run.
        warmup_steps: Number of steps in which `warmup` rises.
        long_steps: Number of steps of the long training that `warmup` starts.
    """
    if name == "constant":
        return learning_rate
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    if name == "warmup":
        return keras.optimizers.schedules.CosineDecay(
            learning_rate / warmup_steps,
            long_steps - warmup_steps,
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    warmup = max(1, round(0.3 * steps))
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / 25,
        max(1, steps - warmup),
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )


class Trainer:
    """Trains one network many times, and compiles it once.

    `make_model` and `train` are those of a `keras_parewire.studies.Study`. A
    run differs from others in the network's weights alone: all else that a run
    changes is put back before it.

    Args:
        build: Function that returns the network.
        data: A `data.Data`.
        epochs: Number of epochs of each run.
        batch_size: Batch size of training; the remainder of an epoch is
            dropped.
        optimizer: Function that takes the number of steps in an epoch and
            returns the optimizer.
        vary_order: Whether the order of the images and their augmentation
            follow the seed of the run, instead of being alike for all.
        run_eagerly: Whether to run without compilation, for smoke tests of
            large networks.
    """

    def __init__(
        self,
        build,
        data,
        epochs,
        batch_size,
        optimizer,
        vary_order=False,
        run_eagerly=False,
    ):
        self.data = data
        self.epochs = epochs
        self.batch_size = batch_size
        self.vary_order = vary_order
        self.steps = len(data.train) // batch_size
        if not self.steps:
            raise ValueError(
                f"`batch_size` must be at most {len(data.train)}, the number "
                f"of training images. Received: batch_size={batch_size}"
            )
        # Divides both sets, so that only one shape is compiled.
        self.eval_batch_size = math.gcd(
            len(data.validation), len(data.test), 500
        )
        # Dropout gets the same random states in every process.
        keras.utils.set_random_seed(ORDER_SEED)
        self.network = build()
        self.model = OnDevice(self.network, data.images)
        self.model(data.test[:1])
        self.model.compile(
            optimizer(self.steps),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            run_eagerly=run_eagerly,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        # The optimizer, the statistics and all random states.
        self._state = [
            (variable, ops.convert_to_numpy(variable).copy())
            for variable in (
                *self.model.non_trainable_variables,
                *self.model.optimizer.variables,
            )
            if variable is not self.model.pixels
        ]

    def make_model(self):
        """Returns the network with new weights."""
        reinitialize(self.network)
        return self.network

    def train(self, network, seed):
        """Trains the network from its present weights, and evaluates it.

        Returns:
            A dict of numbers: the curves as one number for each epoch, the test
            accuracy, and the moments of the strengths before training.
        """
        measured = measure(network)
        order_seed = seed if self.vary_order else ORDER_SEED
        order = epoch_orders(
            self.data.train,
            self.epochs,
            self.steps * self.batch_size,
            order_seed,
        )
        labels, validation, test = (
            self.data.labels,
            self.data.validation,
            self.data.test,
        )
        # Not earlier: the first `fit` also builds the metrics, which on PyTorch
        # draws from the global generator.
        callbacks = {"on_train_begin": lambda logs: self._restore(order_seed)}
        if keras.backend.backend() == "torch":
            # Elsewhere it would only make each batch wait for the last one.
            callbacks["on_train_batch_end"] = _collect_garbage
        history = self.model.fit(
            order,
            labels[order],
            batch_size=self.batch_size,
            epochs=self.epochs,
            # The orders of all epochs are one array, already shuffled.
            steps_per_epoch=self.steps,
            shuffle=False,
            validation_data=(validation, labels[validation]),
            validation_batch_size=self.eval_batch_size,
            callbacks=[keras.callbacks.LambdaCallback(**callbacks)],
            verbose=0,
        ).history
        result = self.model.evaluate(
            test,
            labels[test],
            batch_size=self.eval_batch_size,
            verbose=0,
            return_dict=True,
        )
        return {
            **{
                f"epoch_{epoch}_{curve}": value
                for curve in CURVES
                for epoch, value in enumerate(history[curve], 1)
            },
            "test_accuracy": result["accuracy"],
            **measured,
        }

    def _restore(self, order_seed):
        """Puts back everything but the trainable weights."""
        # PyTorch's plain dropout draws from its global generator.
        keras.utils.set_random_seed(ORDER_SEED)
        for variable, value in self._state:
            variable.assign(value)
        self.model.augmentation.state.assign([order_seed, 0])


def measure(network):
    """Returns the moments of a network's strengths."""
    variance, kurtosis = strength_moments(network)
    return {"strength_variance": variance, "strength_kurtosis": kurtosis}


def _collect_garbage(batch, logs):
    """Frees what PyTorch's reference cycles hold, every 50 batches.

    They are few objects, which Python's collector hardly notices, but hold some
    30 MB for each batch of SL-ViT.
    """
    if batch % 50 == 0:
        gc.collect()


def epoch_orders(train, epochs, length, seed=ORDER_SEED):
    """Returns the images of all epochs in one array, each epoch permuted."""
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [generator.permutation(train)[:length] for _ in range(epochs)]
    )
