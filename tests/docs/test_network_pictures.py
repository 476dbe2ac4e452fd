"""The animation shows what the package does, neuron by neuron."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from network_pictures import frames_of, make_kernel
from PIL import Image

from keras_parewire import rewire

pytestmark = pytest.mark.any_backend

GIF = Path(__file__).parents[2] / "examples" / "results" / "rewiring.gif"


def test_frames_of_the_animation():
    kernel = make_kernel(56, (10, 7))
    frames = frames_of(kernel)
    np.testing.assert_array_equal(frames[0], kernel)
    rewired = np.asarray(rewire(kernel, seed=0))
    np.testing.assert_array_equal(frames[-1], rewired)
    # The passes keep the weights of each output, then those of each input.
    halfway = frames[7]
    np.testing.assert_array_equal(np.sort(halfway, 0), np.sort(kernel, 0))
    np.testing.assert_array_equal(np.sort(halfway, 1), np.sort(rewired, 1))
    for one, other in itertools.pairwise(frames):
        np.testing.assert_array_equal(np.sort(one, None), np.sort(other, None))
        # One neuron at a time.
        changed = one != other
        assert changed.any(axis=0).sum() <= 1 or changed.any(axis=1).sum() <= 1
    with Image.open(GIF) as image:
        assert image.n_frames == len(frames) == 1 + 7 + 10
