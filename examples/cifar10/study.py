"""Configuration and runs of the CIFAR-10 study."""

import datetime
import functools
import hashlib
import json
import os
import platform
from importlib.metadata import version

import keras
import numpy as np

from cifar10 import rows
from cifar10.arms import (
    STABILIZED_CANDIDATES,
    InitialWeights,
    strength_moments,
)
from cifar10.data import SPLIT_SEED
from cifar10.models import RECIPES
from cifar10.trainer import ORDER_SEED, PADDING, Trainer, schedule

# Raise it when you change what a run computes or what its row holds.
STUDY_VERSION = 2
# What changes how a backend computes, besides its version.
FLAGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
BACKEND = keras.backend.backend()


class Study:
    """A model's runs under one configuration.

    Args:
        options: The command line's arguments, see `train.py`.
        data: A `data.Data`.
    """

    def __init__(self, options, data):
        device, self.device_name = find_device()
        self.recipe = RECIPES[options.model]
        self.data = data
        self.smoke = options.smoke
        policy = "mixed_bfloat16" if device == "gpu" else "float32"
        keras.config.set_dtype_policy(policy)
        # All that changes a result, since rows of different studies never mix.
        self.config = {
            "model": options.model,
            "base": options.base or self.recipe.base,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "schedule": options.schedule,
            "optimizer": "adamw",
            "learning_rate": options.learning_rate or self.recipe.learning_rate,
            "weight_decay": self.recipe.weight_decay,
            "augmentation": f"crop with padding {PADDING}, horizontal flip",
            "dtype": policy,
            "backend": BACKEND,
            "device": device,
            "data": data.fingerprint,
            "split": [len(part) for part in data[2:5]],
            "split_seed": SPLIT_SEED,
            "order_seed": "of the run" if options.vary_order else ORDER_SEED,
            "candidates": options.candidates,
            "stabilized_candidates": STABILIZED_CANDIDATES,
            "study_version": STUDY_VERSION,
        }
        if options.schedule == "warmup":
            self.config["warmup_epochs"] = self.recipe.warmup_epochs
            self.config["long_epochs"] = self.recipe.long_epochs
        text = json.dumps(self.config, sort_keys=True)
        self.hash = hashlib.sha256(text.encode()).hexdigest()[:8]
        stem = f"cifar10-{options.model}-{self.hash}"
        self.path = options.out / f"{stem}.csv"

    def missing(self, seeds, arms):
        """Returns the runs that the file lacks, all arms of a seed together."""
        done = set(map(rows.key, rows.read(self.path)))
        model = self.config["model"]
        return [
            (arm, seed)
            for seed in seeds
            for arm in arms
            if (model, arm, str(seed)) not in done
        ]

    def run(self, runs, after_epoch=lambda: None):
        """Trains the runs, and adds a row to the file after each."""
        if not runs:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows.write_atomically(
            self.path.with_suffix(".json"),
            json.dumps(self.config, indent=2) + "\n",
        )
        for arm, seed in runs:
            row = self.train(arm, seed, after_epoch)
            rows.append(self.path, row)

    def train(self, arm, seed, after_epoch=lambda: None):
        """Returns the row of one run."""
        draw = self.weights.set_up(arm, seed)
        variance, kurtosis = strength_moments(self.weights.network)
        order_seed = self.config["order_seed"]
        result = self.trainer.run(
            after_epoch, seed if order_seed == "of the run" else order_seed
        )
        now = datetime.datetime.now(datetime.UTC)
        return {
            "model": self.config["model"],
            "arm": arm,
            "seed": seed,
            "base": self.config["base"],
            "draw": draw,
            "epochs": self.config["epochs"],
            "epoch_1_accuracy": result["accuracies"][0],
            "epoch_1_val_accuracy": result["val_accuracies"][0],
            "val_accuracy": result["val_accuracies"][-1],
            "test_accuracy": result["test_accuracy"],
            "strength_variance": variance,
            "strength_kurtosis": kurtosis,
            "losses": json.dumps(result["losses"]),
            "accuracies": json.dumps(result["accuracies"]),
            "val_accuracies": json.dumps(result["val_accuracies"]),
            "config": self.hash,
            "backend": BACKEND,
            "device": self.device_name,
            "dtype": self.config["dtype"],
            "keras": keras.__version__,
            "backend_version": version(BACKEND),
            "numpy": np.__version__,
            "keras_parewire": version("keras_parewire"),
            "threads": thread_count(),
            "flags": json.dumps(
                {name: os.environ[name] for name in FLAGS if name in os.environ}
            ),
            "seconds": round(result["seconds"], 3),
            "utc": now.isoformat(timespec="seconds"),
        }

    @functools.cached_property
    def weights(self):
        """The one network; its dropout has the same seeds in every run."""
        keras.utils.set_random_seed(ORDER_SEED)
        network = self.recipe.build(self.config["base"])
        return InitialWeights(network, self.config["candidates"])

    @functools.cached_property
    def trainer(self):
        """The one compiled model."""
        config = self.config

        def optimizer(steps):
            rate = schedule(
                config["schedule"],
                config["learning_rate"],
                config["epochs"] * steps,
                self.recipe.warmup_epochs * steps,
                self.recipe.long_epochs * steps,
            )
            return keras.optimizers.AdamW(
                rate, weight_decay=config["weight_decay"]
            )

        # Eager is cheapest for a few steps; the small CNN tests compilation.
        eager = BACKEND == "tensorflow" and config["model"] != "small_cnn"
        return Trainer(
            self.weights.network,
            self.data,
            config["epochs"],
            config["batch_size"],
            optimizer,
            run_eagerly=self.smoke and eager,
        )


def find_device():
    """Returns "gpu" or "cpu", and the name of the device."""
    if BACKEND == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform == "gpu":
            return "gpu", device.device_kind
    elif BACKEND == "torch":
        import torch

        if torch.cuda.is_available():
            return "gpu", torch.cuda.get_device_name()
    else:
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(device)
            return "gpu", details.get("device_name", "GPU")
    return "cpu", f"{platform.machine()}, {_cores()} core(s)"


def thread_count():
    """Returns how many threads the backend uses for one operation."""
    if BACKEND == "torch":
        import torch

        return torch.get_num_threads()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # 0 stands for one thread per core.
        return (
            tf.config.threading.get_intra_op_parallelism_threads() or _cores()
        )
    return _cores()


def _cores():
    # A container or `taskset` may allow fewer cores than there are; not every
    # operating system reports that.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
