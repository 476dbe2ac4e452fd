"""Initializers made again with other seeds, also those inside of them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from keras_parewire.initializers.bases import has_seed, resolve_base
from keras_parewire.initializers.wrapper import InitializerWrapper

NextSeed: TypeAlias = Callable[[], int]


def with_new_seeds(initializer: Any, next_seed: NextSeed) -> Any:
    """Returns an initializer with other seeds, or as it is if it has none.

    `next_seed` returns the seed of the next one: the innermost base, then the
    one that wraps it.
    """
    if isinstance(initializer, str | dict | type):
        try:
            # A seed given here keeps Keras from drawing one.
            initializer, _ = resolve_base(initializer, 0)
        except ValueError:
            return initializer  # Keras raises a better error.
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(initializer, InitializerWrapper):
        # Its config could not restore every base.
        del config["base"]
        base = with_new_seeds(initializer.base, next_seed)
        changed = config_with_new_seeds(config, next_seed)
        return type(initializer).from_config({**changed, "base": base})
    changed = config_with_new_seeds(config, next_seed)
    if changed is config:
        return initializer
    return type(initializer).from_config(changed)


def config_with_new_seeds(config: Any, next_seed: NextSeed) -> Any:
    """Returns a config with other seeds, or the same one if it has none."""
    if isinstance(config, keras.initializers.Initializer):
        return with_new_seeds(config, next_seed)
    if isinstance(config, dict):
        changed = {
            key: _new_entry(key, value, next_seed)
            for key, value in config.items()
        }
        same = all(changed[key] is config[key] for key in config)
        return config if same else changed
    if type(config) in (list, tuple):
        items = [config_with_new_seeds(value, next_seed) for value in config]
        same = all(new is old for new, old in zip(items, config, strict=True))
        return config if same else type(config)(items)
    return config


def _new_entry(key: Any, value: Any, next_seed: NextSeed) -> Any:
    if key == "seed":
        if value is None or type(value) is int:
            return next_seed()
        if isinstance(value, keras.random.SeedGenerator):
            return keras.random.SeedGenerator(next_seed())
    if isinstance(value, str) and str(key).endswith("initializer"):
        # The name of an initializer, which Keras would give a random seed.
        made = with_new_seeds(value, next_seed)
        if has_seed(made):
            return keras.saving.serialize_keras_object(made)
        return value
    return config_with_new_seeds(value, next_seed)
