"""What the rows of a study depend on, in types that JSON can hold."""

import dis
import functools
import hashlib
import inspect
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import keras
import numpy as np

# The versions of these packages are in the environment.
_VERSIONED = ("keras", "keras_parewire")
# Keras counts the layers of all models of a process.
_NUMBER = re.compile("_[0-9]+(?=/|$)")


def describe(value: Any, what: str) -> Any:
    """Describes arms or a configuration in types that JSON can hold."""

    def convert(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, np.ndarray):
            digest = _digest(np.ascontiguousarray(item).tobytes())
            return f"{item.dtype} array of shape {item.shape}, {digest}"
        if isinstance(item, range):
            return list(item)
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        if isinstance(item, keras.layers.Layer):
            return f"layer {_NUMBER.sub('', item.name)}"
        if isinstance(item, functools.partial):
            parts = {"arguments": item.args, "keywords": item.keywords}
            return {"call": item.func, **parts}
        if hasattr(item, "get_config") and not inspect.isclass(item):
            config = {**item.get_config(), "name": None}  # May be numbered.
            return {"class": type(item).__name__, "config": config}
        if callable(item):
            return describe_function(item)
        raise TypeError(f"{item!r} is of type {type(item).__name__}")

    try:
        text = json.dumps(value, default=convert)
        return json.loads(text, parse_constant=str)  # No infinity in JSON.
    except (TypeError, ValueError) as error:
        raise TypeError(
            "Arms and configurations must consist of numbers, strings, lists, "
            "dicts, arrays, functions and Keras objects. "
            f"Received: {what}={value!r}, where {error}"
        ) from error


def describe_function(function: Any) -> Any:
    """Describes a function, a class or a callable object by its code."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if str(getattr(function, "__module__", "")).split(".")[0] in _VERSIONED:
        return f"function {name}"
    return {"function": name, "code": _code_of(function)}


def _code_of(function: Any) -> str:
    """Returns a digest of what a function's code does.

    Read from what Python compiled: a file may have changed since. Names,
    comments, docstrings and layout do not count.
    """
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        function = type(function)
    found: list[str] = []
    is_class = inspect.isclass(function)
    parts = dict(vars(function)) if is_class else {"": function}
    for name in sorted(parts):
        part: Any = getattr(parts[name], "fget", parts[name])
        part = inspect.unwrap(getattr(part, "__func__", part))
        if inspect.isfunction(part):
            defaults = part.__defaults__, part.__kwdefaults__
            found += [name, _text(defaults), *_instructions(part.__code__)]
        elif isinstance(part, int | float | str) and name[:2] != "__":
            found += [name, _text(part)]
    return _digest("\n".join(found).encode())


def _instructions(code: CodeType) -> Iterator[str]:
    """Yields what a function does, one step after the other."""
    for step in dis.get_instructions(code):
        # Where a step stands, and some that do nothing, depend on the layout.
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            yield step.opname
        elif isinstance(step.argval, CodeType):
            yield from _instructions(step.argval)
        elif step.opname != "NOP":
            yield f"{step.opname} {_text(step.argval)}"


def _text(value: Any) -> str:
    """Returns the same text for equal constants, in any process."""
    if isinstance(value, frozenset):
        value = sorted(map(_text, value))
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


def _digest(content: bytes) -> str:
    return f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def identify(model: Any) -> dict[str, Any]:
    """Returns what a run depends on besides its code and configuration."""
    weights = [
        f"{_NUMBER.sub('', w.path)} {tuple(w.shape)} {w.dtype}"
        for w in model.weights
    ]
    digest = _digest("\n".join(weights).encode())
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    backend = keras.backend.backend()
    return {
        "model": f"{parameters:,} parameters in {len(weights)} weights, "
        f"{digest}",
        "environment": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            "keras_parewire": sys.modules["keras_parewire"].__version__,
            "keras": keras.__version__,
            "backend": backend,
            "backend_version": str(sys.modules[backend].__version__),
            "numpy": np.__version__,
            "dtype": str(model.dtype_policy.name),
            "device": find_device(model.weights[0].value),
        },
    }


def find_device(tensor: Any) -> str:
    """Returns the kind of device that holds a tensor, and its name."""
    # Each backend has its own class of device, and only the names agree.
    name = str(getattr(tensor, "device", "")).lower()
    if "cuda" in name or "gpu" in name:
        return _gpu_name()
    other = next((kind for kind in ("tpu", "mps", "xpu") if kind in name), None)
    return other or f"cpu {platform.machine()}"


@functools.cache
def _gpu_name() -> str:
    status, names = subprocess.getstatusoutput(
        "nvidia-smi --query-gpu=name --format=csv,noheader"
    )
    found = sorted({*names.splitlines()}) if status == 0 else []
    return f"gpu {', '.join(found)}".strip()


def differences(
    found: Any, expected: Any, name: str = "", any_code: bool = False
) -> str:
    """Says in words what differs between two descriptions; empty if nothing."""
    if found == expected:
        return ""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        if found.keys() == expected.keys() == {"function", "code"}:
            same = any_code or found["code"] == expected["code"]
            return "" if same else f"the code of {name} has changed"
        parts = []
        for key in {**found, **expected}:
            pair = found.get(key), expected.get(key)
            where = f"{name}.{key}".strip(".")
            parts.append(differences(*pair, where, any_code))
        return "; ".join(filter(None, parts))
    return f"{name} is {found!r}, not {expected!r}"
