"""The animation shows what the package does, neuron by neuron."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_parewire import rewire

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]


def test_frames_of_the_animation(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    from network_pictures import frames_of, make_kernel

    kernel = make_kernel(56, (10, 7))
    frames = frames_of(kernel)
    np.testing.assert_array_equal(frames[0], kernel)
    np.testing.assert_array_equal(
        frames[-1], np.asarray(rewire(kernel, seed=0))
    )
    for one, other in itertools.pairwise(frames):
        np.testing.assert_array_equal(np.sort(one, None), np.sort(other, None))
        # One neuron at a time.
        changed = one != other
        assert changed.any(axis=0).sum() <= 1 or changed.any(axis=1).sum() <= 1
    with Image.open(ROOT / "examples" / "results" / "rewiring.gif") as image:
        assert image.n_frames == len(frames) == 1 + 7 + 10
