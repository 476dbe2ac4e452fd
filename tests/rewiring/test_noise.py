import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import ops
from scipy.stats import beta, kstest

from keras_parewire.rewiring.noise import host_noise, traced_noise
from keras_parewire.rewiring.philox import host_bits, traced_bits
from keras_parewire.rewiring.seeding import noise_key

KEY = (0xFFFFFFFF, 0x80000000, 0x70617265, 7)


@pytest.mark.parametrize(
    ("stream", "first"), [((0, 0), 0), ((1, 2**31 - 1), 2**31 - 102)]
)
def test_bits_are_those_of_numpy(stream, first):
    blocks = first + np.arange(100, dtype=np.int32)
    generator = np.random.Philox(
        key=KEY[0] + (KEY[1] << 32) + (KEY[2] << 64) + (KEY[3] << 96),
        counter=first + (stream[0] << 64) + (stream[1] << 128),
    )
    expected = generator.random_raw(400).astype("<u8").view("<i4")
    bits = traced_bits(KEY, stream, ops.convert_to_tensor(blocks))
    np.testing.assert_array_equal(as_array(bits).ravel(), expected)
    bits = host_bits(KEY, stream, 8 * first, 800)
    np.testing.assert_array_equal(bits, expected)


@pytest.mark.any_backend
def test_bits_can_be_had_from_anywhere():
    bits = host_bits(KEY, (0, 0), 0, 50)
    for first in range(20):
        for count in (1, 7, 30):
            np.testing.assert_array_equal(
                host_bits(KEY, (0, 0), first, count),
                bits[first : first + count],
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exponent", "group"), [(0.0, 0), (0.25, 3), (3.0, 0), (float("inf"), 3)]
)
def test_traced_noise_is_that_of_the_host(exponent, group):
    for host, traced in zip(
        host_noise(KEY, exponent, group),
        traced_noise(KEY, exponent, group),
        strict=True,
    ):
        for first in (0, 5):
            samples = as_array(traced(first, 500))
            assert samples.dtype == np.float32
            assert_same(samples, host(8 * first, 4000))


@pytest.mark.any_backend
def test_streams_differ():
    streams = [
        draw(0, 1000)
        for seed in (0, 1, 2**32)
        for group in (0, 1)
        for draw in host_noise(noise_key(seed), 1.0, group)
    ]
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 0.15


@pytest.mark.any_backend
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_noise_is_exponential(seed):
    samples = host_noise(noise_key(seed), 1.0)[0](0, 10**6).astype(np.float64)
    assert samples.min() > 0
    assert kstest(samples, "expon").pvalue > 0.001
    # The extremes too: each tail looks like the whole.
    above = samples[samples > 8] - 8
    assert len(above) == pytest.approx(10**6 * np.exp(-8), abs=90)
    assert kstest(above, "expon").pvalue > 0.001
    below = samples[samples < 1e-3] * 1e3
    assert len(below) == pytest.approx(1000, abs=160)
    assert kstest(below, "uniform").pvalue > 0.001


@pytest.mark.any_backend
@pytest.mark.parametrize("others", [10**5, 4 * 10**5])
def test_extremes_of_rows(others):
    draw = host_noise(noise_key(3), 1.0)[0]
    rows = [draw(row * others, others) for row in range(100)]
    least = np.array([row.min() for row in rows], np.float64)
    assert kstest(least * others, "expon").pvalue > 0.001
    # Of the largest of `n`, the distribution function is `(1 - exp(-x)) ** n`.
    most = 1 - np.exp(-np.array([row.max() for row in rows], np.float64))
    assert kstest(most, beta(others, 1).cdf).pvalue > 0.001


@pytest.mark.any_backend
@pytest.mark.parametrize("exponent", [0.25, 0.5, 3.0])
def test_samples_are_raised_to_the_power(exponent):
    plain = host_noise(noise_key(0), 1.0)[0](0, 10**5).astype(np.float64)
    raised = host_noise(noise_key(0), exponent)[0](0, 10**5)
    np.testing.assert_allclose(raised, plain ** (1 / exponent), rtol=2e-5)


@pytest.mark.any_backend
def test_samples_hardly_ever_meet():
    samples = host_noise(noise_key(0), 1.0)[0](0, 2**20)
    # 2.5e-8 of all pairs: 13,745 of them.
    pairs = 2**20 - len(np.unique(samples))
    assert pairs == pytest.approx(13_745, rel=0.05)


def test_noise_and_base_are_uncorrelated():
    # Keras' own draws from one integer can be: |r| reaches 0.98 on JAX.
    shape = (1000, 100)
    for base in (keras.random.uniform, keras.random.normal):
        for seed in (0, 5, 1234):
            noise = host_noise(noise_key(seed), 1.0)[0](0, 10**5)
            sample = ops.convert_to_numpy(base(shape, seed=seed))
            r = np.corrcoef(noise, sample.ravel())[0, 1]
            assert abs(r) < 0.02
