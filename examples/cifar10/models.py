"""The networks of the CIFAR-10 study, as plain Keras code.

Each builder takes `base`, the name of the initializer of every kernel, and
returns a model from (32, 32, 3) floats to 10 logits. A name instead of an
instance lets each layer make its own initializer.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers

from cifar10.layers import (
    ChannelsAsOutputs,
    ClassTokenAndPositions,
    LocalityAttention,
    ShiftedPatches,
)

CLASSES = 10


def resnet50(base, width=64, blocks=(3, 4, 6, 3)):
    """ResNet-50 with the CIFAR stem: 3x3, stride 1, no pooling.

    He et al. 2016 (https://arxiv.org/abs/1512.03385) in the CIFAR form of
    https://github.com/kuangliu/pytorch-cifar, `models/resnet.py`. Checked
    against it: kernel sizes, strides and blocks, symmetric padding, the
    stride on the 3x3 convolution, and its 23,520,842 parameters.
    """

    def unit(x, filters, size=1, strides=1):
        if size == 3:
            # PyTorch's padding; Keras' "same" is lopsided under a stride.
            x = layers.ZeroPadding2D(1)(x)
        x = layers.Conv2D(
            filters,
            size,
            strides=strides,
            use_bias=False,
            kernel_initializer=base,
        )(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    def bottleneck(x, filters, strides):
        y = layers.ReLU()(unit(x, filters))
        y = layers.ReLU()(unit(y, filters, 3, strides))
        y = unit(y, 4 * filters)
        if strides > 1 or x.shape[-1] != 4 * filters:
            x = unit(x, 4 * filters, strides=strides)
        return layers.ReLU()(layers.Add()([x, y]))

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(unit(inputs, width, 3))
    for stage, count in enumerate(blocks):
        for block in range(count):
            strides = 2 if stage and not block else 1
            x = bottleneck(x, width * 2**stage, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _logits(x, base), name="resnet50")


def sl_vit(base, patch=4, width=192, depth=9, heads=12, mlp_ratio=2):
    """Small ViT with shifted patches and locality self-attention (SL-ViT).

    Lee et al. 2021 (https://arxiv.org/abs/2112.13492); the configuration is
    that of https://github.com/aanna0701/SPT_LSA_ViT for 32x32 images. Checked
    against `models/vit.py`, `models/SPT.py` and `models/create_model.py` there:
    four diagonal shifts by half a patch, one matrix without a bias for query,
    key and value, a temperature per head that starts at 1 / sqrt(head size),
    the masked diagonal, a class token, normally distributed positions,
    stochastic depth of 0.1 in every block and, by formula, the number of
    parameters.
    """
    inputs = keras.Input((32, 32, 3))
    x = ShiftedPatches(patch)(inputs)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.Dense(width, kernel_initializer=base)(x)
    x = ClassTokenAndPositions()(x)
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(3 * width, use_bias=False, kernel_initializer=base)(y)
        y = LocalityAttention(heads)(y)
        y = layers.Dense(width, kernel_initializer=base)(y)
        x = layers.Add()([x, _drop_path(y)])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(mlp_ratio * width, kernel_initializer=base)(y)
        y = layers.Activation("gelu")(y)
        y = layers.Dense(width, kernel_initializer=base)(y)
        x = layers.Add()([x, _drop_path(y)])
    x = layers.LayerNormalization(epsilon=1e-5)(x[:, 0])
    return keras.Model(inputs, _logits(x, base), name="sl_vit")


def convmixer(base, width=256, depth=8, kernel_size=5, patch=2):
    """ConvMixer-256/8 with kernel size 5 and patch size 2.

    Trockman & Kolter 2022 (https://arxiv.org/abs/2201.09792) in the CIFAR-10
    form of https://github.com/locuslab/convmixer-cifar10, `train.py`. Checked
    against it: the order of convolution, GELU and normalization, what the skip
    connections span, biases and, by formula, the number of parameters.
    """

    def activated(x):
        x = layers.Activation("gelu")(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(width, patch, strides=patch, kernel_initializer=base)
    x = activated(x(inputs))
    for _ in range(depth):
        y = layers.DepthwiseConv2D(
            kernel_size,
            padding="same",
            depthwise_initializer=ChannelsAsOutputs(base),
        )(x)
        x = layers.Add()([x, activated(y)])
        x = activated(layers.Conv2D(width, 1, kernel_initializer=base)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _logits(x, base), name="convmixer")


def small_cnn(base):
    """Three strided convolutions and a hidden layer, for a laptop."""
    inputs = x = keras.Input((32, 32, 3))
    for filters in (16, 32, 64):
        x = layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            activation="relu",
            kernel_initializer=base,
        )(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu", kernel_initializer=base)(x)
    return keras.Model(inputs, _logits(x, base), name="small_cnn")


def mlp(base):
    """Two hidden layers of 500 units: as far as we know, the authors' MLP."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Flatten()(inputs)
    for _ in range(2):
        x = layers.Dense(500, activation="relu", kernel_initializer=base)(x)
    return keras.Model(inputs, _logits(x, base), name="mlp")


class Recipe(NamedTuple):
    """How a network is built and trained by default.

    Attributes:
        build: Function of the base that builds the network.
        base: Name of the initializer of every kernel.
        learning_rate: The highest learning rate.
        weight_decay: Weight decay of AdamW.
        warmup_epochs: Number of rising epochs in the schedule `warmup`.
        long_epochs: Length of the long training that `warmup` starts.
    """

    build: Callable[..., keras.Model]
    base: str
    learning_rate: float
    weight_decay: float
    warmup_epochs: int = 10
    long_epochs: int = 100


# The bases are those of the published results. We do not know how the authors
# trained these networks: rates, decays and epochs are those of the networks'
# sources (for ConvMixer the command that its README recommends), or usual ones.
RECIPES = {
    "resnet50": Recipe(resnet50, "he_normal", 1e-3, 5e-2),
    "sl_vit": Recipe(sl_vit, "orthogonal", 1e-3, 5e-2),
    "convmixer": Recipe(convmixer, "orthogonal", 5e-2, 5e-3, long_epochs=25),
    "small_cnn": Recipe(small_cnn, "orthogonal", 1e-3, 1e-4),
    "mlp": Recipe(mlp, "orthogonal", 1e-3, 1e-4),
}


def _logits(x, base):
    # Softmax and loss in float32, also under a mixed policy.
    return layers.Dense(CLASSES, kernel_initializer=base, dtype="float32")(x)


def _drop_path(x):
    """Stochastic depth: drops the branch for whole images."""
    return layers.Dropout(0.1, noise_shape=(None, 1, 1))(x)
