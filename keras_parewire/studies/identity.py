"""What the rows of a study depend on, in types that JSON can hold."""

import ast
import functools
import hashlib
import inspect
import json
import linecache
import math
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from types import CodeType
from typing import Any

import keras
import numpy as np

# The versions of these packages are in the environment.
_VERSIONED = ("keras", "keras_parewire")
_NAMED = ast.AsyncFunctionDef | ast.ClassDef | ast.FunctionDef
# Keras counts the layers of all models of a process.
_NUMBER = re.compile("_[0-9]+(?=/|$)")


def describe(value: Any, what: str) -> Any:
    """Describes arms or a configuration in types that JSON can hold."""

    def convert(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, np.ndarray):
            if item.dtype.hasobject:
                return item.tolist()
            digest = _digest(item.tobytes())
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
            return {"class": _described_function(type(item)), "config": config}
        if callable(item):
            return _described_function(item)
        raise TypeError(f"{item!r} is of type {type(item).__name__}")

    try:
        text = json.dumps(value, default=convert)
        return json.loads(text, parse_constant=str)  # No infinity in JSON.
    except (NotImplementedError, TypeError, ValueError) as error:
        raise TypeError(
            "Arms and configurations must consist of numbers, strings, lists, "
            "dicts, arrays, functions and Keras objects. "
            f"Received: {what}={value!r}, where {error}"
        ) from error


def _described_function(function: Any) -> Any:
    """Describes a function, a class or a callable object by its code."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = str(getattr(function, "__module__", ""))
    if module.split(".")[0] in _VERSIONED:
        return f"function {module}.{name}"
    code = _code_of(function)
    if code is None:
        warnings.warn(
            "The source of a function cannot be read, or is no longer what it "
            "was made from, so that a change would not be seen: reload it, or "
            f"name its version in `config`. Received: {name}",
            stacklevel=2,
        )
    return {"function": name, "code": code}


def _code_of(function: Any) -> str | None:
    """Returns a digest of what a function's source says, or None.

    Its name, comments, docstrings and layout do not count.
    """
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        function = type(function)
    try:
        first = inspect.getsourcelines(function)[1]
        # All of the file: what stands on the lines of a lambda is no program.
        file = inspect.getsourcefile(function) or ""
        tree = ast.parse("".join(linecache.getlines(file)))
    except (OSError, TypeError, SyntaxError):
        return None
    own = vars(function).values() if inspect.isclass(function) else [function]
    codes = [item.__code__ for item in own if inspect.isfunction(item)]
    if not _are_in([x for x in codes if x.co_filename == file], tree):
        return None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, _NAMED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, _NAMED | ast.Lambda):
            decorators = getattr(node, "decorator_list", [])
            if first == min(part.lineno for part in (node, *decorators)):
                found.append(node)
                if isinstance(node, _NAMED):
                    node.name = "_"
    text = "\n".join(map(ast.unparse, found))
    return _digest(text.encode()) if found else None


def _are_in(codes: list[CodeType], tree: ast.Module) -> bool:
    """Whether a file still has the codes that were once compiled from it."""
    there = [compile(tree, "", "exec", dont_inherit=True)]
    for each in there:  # The list grows.
        there += [x for x in each.co_consts if isinstance(x, CodeType)]
    return all(code in there for code in codes)


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
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.check_output(command, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "gpu"
    return f"gpu {', '.join(sorted({*names.splitlines()} - {''}))}"


def differences(
    found: Any, expected: Any, name: str = "", any_code: bool = False
) -> str:
    """Says in words what differs between two descriptions; empty if nothing.

    Code that could not be read equals any, but for other names of such code.
    """
    if found == expected:
        return ""
    if isinstance(found, list) and isinstance(expected, list):
        found, expected = dict(enumerate(found)), dict(enumerate(expected))
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        if found.keys() == expected.keys() == {"function", "code"}:
            known = {found["code"], expected["code"]} - {None}
            changed = len(known) != 1 and not any_code
            return f"the code of {name} has changed" if changed else ""
        parts = []
        for key in {**found, **expected}:
            pair = found.get(key), expected.get(key)
            where = f"{name}.{key}".strip(".")
            parts.append(differences(*pair, where, any_code))
        return "; ".join(filter(None, parts))
    return f"{name} is {found!r}, not {expected!r}"
