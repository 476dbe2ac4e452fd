"""The method: everything that happens to a single kernel.

`rewire.py` is the entry point. `ops_engine.py` states the rule in `keras.ops`,
and `numpy_engine.py` runs the same rule on the host. `layouts.py` reads a
kernel as matrices, `seeding.py` supplies the randomness, `strengths.py`
measures the result, `sorting.py` and `validation.py` are shared helpers.
Nothing here knows about layers or models.
"""
