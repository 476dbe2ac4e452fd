"""Parts of the CIFAR-10 study's networks that Keras does not have.

They are registered and can be re-created from their configs: that is how
`keras_parewire.reinitialize` draws new weights for a layer.
"""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="cifar10")
class ShiftedPatches(layers.Layer):
    """Cuts an image and four diagonally shifted copies into flat patches."""

    def __init__(self, patch, **kwargs):
        super().__init__(**kwargs)
        self.patch = patch

    def call(self, images):
        shift, patch = self.patch // 2, self.patch
        _, height, width, channels = images.shape
        padded = ops.pad(images, [(0, 0), (shift,) * 2, (shift,) * 2, (0, 0)])
        copies = [
            padded[:, top : top + height, left : left + width]
            for top in (0, 2 * shift)
            for left in (0, 2 * shift)
        ]
        x = ops.concatenate([images, *copies], axis=-1)
        rows, columns, depth = height // patch, width // patch, 5 * channels
        x = ops.reshape(x, (-1, rows, patch, columns, patch, depth))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, rows * columns, patch * patch * depth))


@keras.saving.register_keras_serializable(package="cifar10")
class ClassTokenAndPositions(layers.Layer):
    """Puts a learned token in front and adds learned positions."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token_initializer = keras.initializers.RandomNormal(stddev=1.0)
        self.positions_initializer = keras.initializers.RandomNormal(stddev=1.0)

    def build(self, input_shape):
        _, tokens, width = input_shape
        self.token = self.add_weight(
            (1, 1, width), self.token_initializer, name="token"
        )
        self.positions = self.add_weight(
            (1, tokens + 1, width), self.positions_initializer, name="positions"
        )

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.positions


@keras.saving.register_keras_serializable(package="cifar10")
class LocalityAttention(layers.Layer):
    """Attention without the diagonal, with a learned temperature per head.

    It takes query, key and value side by side. The projections are layers of
    their own, so that functions that look for kernels find them.
    """

    def __init__(self, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape):
        self.size = input_shape[-1] // (3 * self.heads)
        self.temperature_initializer = keras.initializers.Constant(
            self.size**-0.5
        )
        self.temperature = self.add_weight(
            (self.heads, 1, 1), self.temperature_initializer, name="temperature"
        )

    def call(self, x):
        tokens = x.shape[1]
        x = ops.reshape(x, (-1, tokens, 3, self.heads, self.size))
        query, key, value = ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), 3)
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        logits = logits * self.temperature
        logits = ops.where(ops.eye(tokens, dtype="bool"), -1e9, logits)
        x = ops.matmul(ops.softmax(logits), value)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, tokens, self.heads * self.size))


@keras.saving.register_keras_serializable(package="cifar10")
class ChannelsAsOutputs(keras.initializers.Initializer):
    """Draws a depthwise kernel as the kernel of a grouped convolution.

    Its shape in Keras is `(height, width, channels, 1)`, for which an
    orthogonal or fan-scaled base draws weights that are `sqrt(channels)` times
    too small.
    """

    def __init__(self, base, seed=None):
        self.base = base
        self.seed = seed

    def __call__(self, shape, dtype=None):
        height, width, channels, multiplier = shape
        base = keras.initializers.get(
            {"class_name": self.base, "config": {"seed": self.seed}}
        )
        kernel = base((height, width, multiplier, channels), dtype=dtype)
        return ops.transpose(kernel, (0, 1, 3, 2))

    def get_config(self):
        return {"base": self.base, "seed": self.seed}
