"""The attachment of the rule, which both engines and the noise share.

The opposite neurons of a visited neuron are drawn with probabilities
proportional to `P ** exponent`, where `P = s + |min(s)| + 1` and `s` are their
strengths. See `traced_engine.py` for the rule and its draw by clocks.
"""

from keras_parewire.rewiring.values import Tensor

# Below this exponent, `E ** (1 / exponent)` would not fit into a float32.
LEAST_EXACT_EXPONENT = 0.25


def noise_power(exponent: float) -> float:
    """Returns the power of the exponential samples in the clocks."""
    return 1.0 / exponent if exponent >= LEAST_EXACT_EXPONENT else 1.0


def attachment(strengths: Tensor, weakest: Tensor, exponent: float) -> Tensor:
    """Returns the denominator of the clocks, for arrays and tensors alike."""
    # The `+ 1` is the authors': it keeps every probability above zero.
    attachment = strengths + (abs(weakest) + 1.0)
    if exponent >= LEAST_EXACT_EXPONENT:
        return attachment
    return attachment**exponent
