"""The scales of the outputs of a model's kernels, as a table."""

from dataclasses import dataclass

from keras_parewire.tables import WeightTable


@dataclass(frozen=True)
class ScaleRow:
    """One weight of a model, see `ScaleReport`."""

    path: str
    rms: float | None = None
    constant_share: float | None = None
    factor: float | None = None
    skipped: str | None = None


@dataclass(frozen=True, repr=False)
class ScaleReport(WeightTable[ScaleRow]):
    """The scale of each kernel's outputs on a batch; prints as a table.

    Iterating over it, or indexing it, gives one row for each weight of the
    model: first the kernels in the order in which their layers are called, then
    the weights that are skipped. The outputs of a kernel are the sums of its
    neurons, before a bias is added and an activation function applied.

    - `path`: the weight's path in the model;
    - `rms`: the root mean square of the kernel's outputs over samples,
        positions and neurons, and over all calls of its layer; or None;
    - `constant_share`: the share of the mean square that is alike for all
        samples and positions, from 0 to 1: the mean square of the neurons' mean
        outputs, divided by that of all outputs; or None;
    - `factor`: what `rescale_model` has multiplied the kernel by, or None;
    - `skipped`: why the weight was left alone, or None.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = output_scales(model, keras.random.normal((500, 64), seed=0))
    >>> 0.5 < report[0].rms < 2  # `glorot_uniform` starts near 1.
    True
    >>> report[0].constant_share < 0.1
    True
    >>> report[1].skipped
    'bias'
    """

    _columns = "path rms constant_share factor"
    _note = "rms: root mean square of the outputs"
