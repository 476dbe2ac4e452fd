"""The interactive figure shows what the package does."""

import json
import re

import numpy as np
import pytest
import rewiring_figure

from keras_parewire import rewire

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "new" / "rewiring.html"
    rewiring_figure.write(path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(page):
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>', page
    )
    return json.loads(found[1])


def test_each_pass_of_each_run(data):
    kernel = np.array(data["kernel"], "float32")
    assert len(np.unique(kernel)) == kernel.size
    assert len(data["runs"]) == len(data["exponents"]) * len(data["seeds"])
    for run, passes in data["runs"].items():
        exponent, seed = run.split("/")
        halfway, rewired = np.array(passes, "float32")
        expected = rewire(kernel, exponent=float(exponent), seed=int(seed))
        np.testing.assert_array_equal(rewired, np.asarray(expected))
        np.testing.assert_array_equal(np.sort(kernel, 0), np.sort(halfway, 0))
        np.testing.assert_array_equal(np.sort(halfway, 1), np.sort(rewired, 1))


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"https?://|\bsrc=|@import|\bfetch\(", page)
    assert "@DATA@" not in page and "@PICTURE@" not in page
    # Without JavaScript: the first run's kernel, before and after.
    assert page.count("<table>") == 2
