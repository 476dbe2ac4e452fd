"""The names of a model's parts without the numbers that Keras counts on."""

import re
from collections.abc import Mapping
from typing import Any

from keras_parewire.models.weights import chains_of


def plain_names(model: Any) -> dict[str, str]:
    """Maps the names that Keras has numbered to those of a first model.

    Keras counts the layers, and the metrics without a name of their own, of all
    models of a process: what is `auc_1` in the first model may be `auc_7` in
    the next. Such a name is that of its class, with a number or without.
    """
    named: dict[str, Any] = {}
    for part, *_ in chains_of(model):
        things = [part, *getattr(part, "metrics", ())]
        for thing in things:  # Those of `compile` are in a metric of metrics.
            named[thing.name] = thing
            if thing is not part:
                things += getattr(thing, "metrics", ())
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name, thing in named.items():
        stem, _, number = name.rpartition("_")
        if not number.isdecimal():
            stem, number = name, "0"
        kind = type(thing).__name__.lower()
        if stem.replace("_", "") == kind.replace("_", ""):
            numbered.setdefault(stem, []).append((int(number), name))
    return {
        name: f"{stem}_{place}" if place else stem
        for stem, found in numbered.items()
        for place, (_, name) in enumerate(sorted(found))
    }


def with_plain_names(text: str, names: Mapping[str, str]) -> str:
    """Replaces numbered names wherever they stand in a longer name or path."""
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    pattern = rf"(?<![^_/])(?:{'|'.join(longest_first)})(?![^_/])"
    return re.sub(pattern, lambda found: names[found[0]], text)
