"""What we rely on in Keras, where the package's own tests would not notice.

`docs/undocumented_keras.md` lists all of it.
"""

import random

import keras
import pytest
from keras import ops


@pytest.mark.parametrize("name", ["he_normal", "orthogonal", "random_uniform"])
def test_seeds_of_unseeded_initializers(name):
    random.seed(1)
    initializer = keras.initializers.get(name)
    state = random.getstate()
    random.seed(1)
    assert random.getstate() != state
    assert keras.initializers.get(name).seed == initializer.seed
    assert random.getstate() == state
    assert isinstance(initializer.seed, int)
    assert initializer.get_config()["seed"] is None
    # A clone is a new unseeded initializer.
    assert initializer.clone().seed != initializer.seed


@pytest.mark.filterwarnings("ignore:The object being serialized includes a")
def test_class_names_of_serialized_values():
    function = lambda shape, dtype=None: ops.ones(shape)  # noqa: E731
    config = keras.saving.serialize_keras_object(function)
    assert config["class_name"] == "__lambda__"
