"""The published rule in plain NumPy loops: what the package is held to."""

import numpy as np


def published(matrix, generator, exponent=1.0):
    """PA rewiring as in arXiv 2207.08148, for `(inputs, outputs)`."""
    by_outputs = _published_pass(matrix.T, generator, exponent)
    return _published_pass(by_outputs.T, generator, exponent)


def _published_pass(rows, generator, exponent):
    rows = np.array(rows, np.float64)
    strengths = rows[0].copy()
    for row in rows[1:]:
        probabilities = (strengths + abs(strengths.min()) + 1) ** exponent
        targets = generator.choice(
            len(row),
            size=len(row),
            replace=False,
            p=probabilities / probabilities.sum(),
        )
        row[targets] = np.sort(row)
        strengths += row
    return rows


def clocked(matrix, noise, exponent=1.0):
    """The same rule with the draw as given exponential clocks, in float32."""
    by_outputs = _clocked_pass(matrix.T, noise[0], exponent)
    return _clocked_pass(by_outputs.T, noise[1], exponent)


def _clocked_pass(rows, noise, exponent):
    rows = np.array(rows)
    strengths = rows[0].astype(np.float32)
    for row, clocks in zip(rows[1:], noise, strict=True):
        attachment = strengths + (abs(strengths.min()) + np.float32(1))
        power = np.float32(1 if exponent >= 0.25 else exponent)
        order = np.argsort(clocks / attachment**power, kind="stable")
        row[order] = np.sort(row)
        strengths = strengths + row
    return rows
