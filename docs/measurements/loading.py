"""Measures how much of `load_model` and `clone_model` the rewiring takes.

    KERAS_BACKEND=torch python docs/measurements/loading.py

Writes `loading.md` beside itself. Times are medians of one run in which the
arms take turns; only their ratios mean anything elsewhere.
"""

import statistics
import tempfile
import time
from pathlib import Path

import keras

from keras_parewire import PARewired

WIDTH, LAYERS, ROUNDS = 1024, 2, 5
ARMS = {
    "`he_normal`": lambda: keras.initializers.HeNormal(),
    '`PARewired("he_normal")`': lambda: PARewired("he_normal"),
}


def make_model(initializer):
    """Builds the model of one arm."""
    return keras.Sequential(
        [
            keras.Input((WIDTH,)),
            *[
                keras.layers.Dense(WIDTH, kernel_initializer=initializer())
                for _ in range(LAYERS)
            ],
        ]
    )


def main():
    """Measures and writes the table."""
    actions = ("load_model", "clone_model")
    seconds = {(arm, action): [] for arm in ARMS for action in actions}
    with tempfile.TemporaryDirectory() as folder:
        models, paths = {}, {}
        for number, (arm, initializer) in enumerate(ARMS.items()):
            models[arm] = make_model(initializer)
            paths[arm] = Path(folder, f"{number}.keras")
            models[arm].save(paths[arm])
        # The first round warms up.
        for count in range(ROUNDS + 1):
            for arm in ARMS:
                for action, call, argument in (
                    (actions[0], keras.saving.load_model, paths[arm]),
                    (actions[1], keras.models.clone_model, models[arm]),
                ):
                    start = time.perf_counter()
                    call(argument)
                    if count:
                        seconds[arm, action].append(time.perf_counter() - start)
    median = {key: statistics.median(times) for key, times in seconds.items()}
    lines = [
        "| initializers | "
        + " | ".join(f"`{action}`: time | of it rewiring" for action in actions)
        + " |",
        "| --- | --- | --- | --- | --- |",
    ]
    plain = "`he_normal`"
    for arm in ARMS:
        cells = [arm]
        for action in actions:
            bare = arm.replace('PARewired("', "").replace('")', "")
            share = 1 - median[bare, action] / median[arm, action]
            cells.append(f"{median[arm, action] / median[plain, action]:.1f}")
            cells.append(f"{100 * share:.0f} %" if bare != arm else "")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Times are relative to `he_normal` in the same column."]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
