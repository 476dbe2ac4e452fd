"""CIFAR-10 as arrays, with a fixed split into train, validation and test."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

VALIDATION = 5_000
SPLIT_SEED = 0
# Of CIFAR-10's training images, as usual.
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)


class Data(NamedTuple):
    """All images, their labels, and the split as indices of images."""

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str


def load(data_dir=None):
    """Reads CIFAR-10 with TensorFlow Datasets, which needs no TensorFlow.

    Args:
        data_dir: A directory in which tfds has prepared `cifar10`; nothing is
            downloaded. None for tfds' own directory, which it fills if needed.

    Returns:
        A `Data` of 45,000 train, 5,000 validation and 10,000 test images.
    """
    import tensorflow_datasets as tfds

    if data_dir is not None:
        prepared = Path(data_dir, "cifar10").glob("*/dataset_info.json")
        if not any(prepared):
            raise FileNotFoundError(
                "`data_dir` must hold CIFAR-10 as prepared by TensorFlow "
                "Datasets, in `cifar10/<version>`; leave it out to let tfds "
                f"download its own. Received: data_dir={str(data_dir)!r}"
            )
    images, labels = [], []
    # Reads whole splits: tfds ignores slices of Parquet files.
    for split in ("train", "test"):
        source = tfds.data_source(
            "cifar10", split=split, data_dir=data_dir, download=data_dir is None
        )
        for example in source:
            images.append(example["image"])
            labels.append(example["label"])
    return _split(np.array(images), np.array(labels), VALIDATION, len(source))


def load_train_and_test(data_dir):
    """Returns (images, labels) of all training data and of the test data."""
    data = load(data_dir)
    first = data.test[0]
    return (
        (data.images[:first], data.labels[:first]),
        (data.images[first:], data.labels[first:]),
    )


def synthetic(train=16, validation=8, test=8):
    """Random images whose brightness depends on the class, for `--smoke`."""
    generator = np.random.default_rng(0)
    count = train + validation + test
    labels = generator.integers(10, size=count)
    images = generator.integers(56, size=(count, 32, 32, 3))
    images = (images + 20 * labels[:, None, None, None]).astype(np.uint8)
    return _split(images, labels, validation, test)


def _split(images, labels, validation, test):
    labels = labels.astype(np.int32)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes())
    rest = len(images) - test
    order = np.random.default_rng(SPLIT_SEED).permutation(rest)
    order = order.astype(np.int32)
    return Data(
        images,
        labels,
        train=order[validation:],
        validation=order[:validation],
        test=np.arange(rest, len(images), dtype=np.int32),
        fingerprint=digest.hexdigest()[:12],
    )
