import sys

import constnet
import keras
import numpy as np
import pytest
from keras import ops

pytestmark = [pytest.mark.any_backend, pytest.mark.slow]


def trained(dropout, steps=6):
    model = constnet.constnet((8, 8, 3), 5, depth=7, widen=1, dropout=dropout)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * steps, 8, 8, 3), np.float32)
    y = rng.integers(5, size=4 * steps)
    model.fit(x, y, 4, verbose=0)
    return model


def test_size_of_the_authors_network():
    model = constnet.constnet((32, 32, 3), 10)
    sizes = [np.prod(v.shape) for v in model.trainable_variables]
    assert sum(sizes) == 17_115_354
    assert model.output_shape == (None, 10)


def test_start():
    model = constnet.constnet((8, 8, 3), 5, depth=7, widen=2)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), 0.2)
    stem, *others = constnet.convolutions(model)
    averaging = [part for part in others if part.kernel_size == (1, 1)]
    assert len(averaging) == 3  # Where the width changes.
    for part in (stem, *others):
        kernel = ops.convert_to_numpy(part.kernel)
        assert kernel.any() == (part is stem or part in averaging)
    shapes = [layer.output.shape[1:] for layer in model.layers]
    assert {(8, 8, 32), (4, 4, 64), (2, 2, 128)} <= set(shapes)


def test_channels_stay_the_same_without_noise():
    model = trained(dropout=0)
    kernels = [
        ops.convert_to_numpy(layer.kernel)
        for layer in constnet.convolutions(model)
    ]
    assert all(kernel.any() for kernel in kernels)
    for kernel in kernels[1:]:  # The stem sees three different channels.
        assert np.ptp(kernel, axis=(2, 3)).max() == 0
    assert np.ptp(kernels[0], axis=3).max() == 0
    assert constnet.spread(model) == 0


def test_dropout_makes_them_differ():
    assert constnet.spread(trained(dropout=0.1)) > 0


def test_depth():
    with pytest.raises(ValueError, match=r"`depth` must be 3n \+ 4.*depth=8"):
        constnet.constnet((8, 8, 3), 5, depth=8)


def test_correlation():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 5))
    for axis, rows in ((-1, kernel.reshape(36, 5).T), (-2, None)):
        if rows is None:
            rows = kernel.transpose(2, 0, 1, 3).reshape(4, 45)
        matrix = np.corrcoef(rows)
        off = matrix[~np.eye(len(matrix), dtype=bool)]
        np.testing.assert_allclose(
            constnet.correlation(kernel, axis), off.mean(), atol=1e-12
        )
    assert constnet.correlation(np.ones((3, 3, 4, 5)), -1) == 1
    assert constnet.correlation(np.ones((3, 3, 4, 1)), -1) == 1


def test_the_script(tmp_path, monkeypatch, capsys):
    arguments = ["constnet.py", "--epochs", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    constnet.main()
    output = capsys.readouterr().out
    assert "ConstNet-7-1: 28,954 parameters" in output
    assert (tmp_path / "constnet-dropout-0.01.png").exists()
