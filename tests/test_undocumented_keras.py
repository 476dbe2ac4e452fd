"""What we rely on in Keras, where the package's own tests would not notice.

`docs/undocumented_keras.md` lists all of it.
"""

import random

import keras
import numpy as np
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
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: lambda shape, dtype=None: ops.ones(shape), "__lambda__"),
        (lambda: np.ones((2, 3), "float32"), "__numpy__"),
        (lambda: ops.ones((2, 3)), "__tensor__"),
    ],
)
def test_class_names_of_serialized_values(make, name):
    config = keras.saving.serialize_keras_object(make())
    assert config["class_name"] == name
    if name != "__lambda__":
        values = np.array(config["config"]["value"])
        np.testing.assert_array_equal(values, np.ones((2, 3)))
        assert config["config"]["dtype"] == "float32"
