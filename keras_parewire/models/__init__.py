"""Functions for whole models, which know the axes of every layer's kernels.

The axes of Keras' own layers are in `layer_axes.py`; `kernels.py` decides which
weights of a model are kernels.
"""
