"""
An ensemble from one compiled model
===================================

`reinitialize` draws all weights of a built model again and resets its
optimizer, while the model stays compiled. So it is compiled only once for the
whole ensemble.
"""

import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_parewire import reinitialize

digits = load_digits()
x = (digits.data / 16).astype("float32")
y = digits.target.astype("int32")
order = np.random.default_rng(0).permutation(len(x))
train, test = order[:300], order[300:]

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    keras.optimizers.Adam(0.01),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)

predictions, seconds = [], []
for seed in range(8):
    start = time.perf_counter()
    reinitialize(model, seed=seed)
    model.fit(x[train], y[train], epochs=5, verbose=0)
    predictions.append(model.predict(x[test], verbose=0))
    seconds.append(time.perf_counter() - start)

# %%
# The accuracy of each member, and of the mean prediction of the first ones.

predictions = np.array(predictions)
single = (predictions.argmax(-1) == y[test]).mean(1)
together = [
    (predictions[: n + 1].mean(0).argmax(-1) == y[test]).mean()
    for n in range(len(predictions))
]
members = np.arange(1, len(predictions) + 1)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
left.plot(members, 100 * single, "o", color="tab:gray", label="member")
left.plot(members, 100 * np.array(together), label="ensemble so far")
left.set(xlabel="members", ylabel="test accuracy in %")
left.legend()
right.bar(members, np.array(seconds) / seconds[0])
right.set(xlabel="member", ylabel="time, relative to the first")
figure.tight_layout()
