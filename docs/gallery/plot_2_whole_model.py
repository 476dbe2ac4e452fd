"""
Rewire a whole model
====================

`rewire_model` rewires every kernel of a built model in place, along the true
axes of its layer, and reports the strength variances before and after.
"""

import keras

from keras_parewire import plot_strength_variances, rewire_model

model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))
report = rewire_model(model, seed=0)
print(report)

# %%
# The variances as a picture, a line for each kernel. In small kernels with few
# neurons, they fall less.

plot_strength_variances(report)
