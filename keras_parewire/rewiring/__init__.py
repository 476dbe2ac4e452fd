"""The method: everything that happens to a single kernel.

`rewire.py` is the entry point. `traced_engine.py` states the rule in
`keras.ops`, and `host_engine.py` runs the same rule in NumPy where values are
known; what belongs to one of the two is called `host_...` or `traced_...`
throughout. `attachment.py` is what they share. `matrix_view.py` reads a kernel
as matrices, `seeding.py`, `noise.py` and `philox.py` supply the randomness,
`strengths.py` measures the result, and `sorting.py`, `values.py` and
`validation.py` are shared helpers. Nothing here knows about layers or models.
"""
