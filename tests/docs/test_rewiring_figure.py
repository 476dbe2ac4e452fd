"""The interactive figure shows what the package does."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from keras_parewire import rewire

pytestmark = pytest.mark.any_backend

FOLDER = Path(__file__).parents[2] / "docs" / "interactive"


@pytest.fixture(scope="module")
def figure():
    path = FOLDER / "rewiring_figure.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(figure, tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "new" / "rewiring.html"
    figure.write(path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(page):
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>', page
    )
    return json.loads(found[1])


def test_all_weights_differ(figure):
    kernel = figure.make_kernel()
    assert len(np.unique(kernel)) == kernel.size


def test_the_page_has_every_run(data):
    assert len(data["runs"]) == len(data["exponents"]) * len(data["seeds"])


@pytest.mark.parametrize("run", ["0/1", "1/0", "2/3", "inf/4"])
def test_a_run_ends_as_rewire_does(data, run):
    exponent, seed = run.split("/")
    kernel = np.array(data["kernel"], "float32")
    rewired = rewire(kernel, exponent=float(exponent), seed=int(seed))
    np.testing.assert_array_equal(
        np.array(data["runs"][run][1], "float32"), np.asarray(rewired)
    )


@pytest.mark.parametrize("run", ["0/1", "1/0", "2/3", "inf/4"])
def test_each_pass_keeps_its_neurons_weights(data, run):
    kernel = np.array(data["kernel"])
    halfway, rewired = np.array(data["runs"][run])
    np.testing.assert_array_equal(np.sort(kernel, 0), np.sort(halfway, 0))
    np.testing.assert_array_equal(np.sort(halfway, 1), np.sort(rewired, 1))
    # The first neuron of each pass stays.
    np.testing.assert_array_equal(kernel[:, 0], halfway[:, 0])
    np.testing.assert_array_equal(halfway[0], rewired[0])


def test_greedy_gives_the_strongest_the_smallest(data):
    kernel = np.array(data["kernel"])
    halfway, _ = np.array(data["runs"]["inf/0"])
    for visited in range(1, kernel.shape[1]):
        strengths = halfway[:, :visited].sum(axis=1)
        np.testing.assert_array_equal(
            np.argsort(-strengths), np.argsort(halfway[:, visited])
        )


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"https?://|\bsrc=|@import|\bfetch\(", page)
    assert "@DATA@" not in page and "@PICTURE@" not in page
    # Without JavaScript: the first run's kernel, before and after.
    assert page.count("<table>") == 2
