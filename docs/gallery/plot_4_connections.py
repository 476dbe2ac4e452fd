"""
A kernel as a network
=====================

`plot_connections` draws a small kernel as neurons and connections, here before
and after rewiring on the same scales. The connections' weights are the same
numbers, but the strengths of the neurons have become similar.
"""

import keras

from keras_parewire import plot_connections, plot_strengths, rewire

kernel = keras.random.normal((16, 10), seed=1)
rewired = rewire(kernel, seed=0)
plot_connections(kernel, rewired)

# %%
# The same for a larger kernel, of which only the strengths can be drawn.

kernel = keras.initializers.GlorotUniform(seed=0)((512, 256))
plot_strengths(kernel).set_title("before")

# %%
plot_strengths(rewire(kernel, seed=0)).set_title("after")
