"""Writes the pages of the API reference, and reads Keras' docstring style.

Every public name gets a page of its own, grouped as the package's folders are.
New names and folders need no change here.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import keras_parewire

# The order in which a newcomer meets them; others follow.
ORDER = ("initializers", "rewiring", "models", "callbacks", "visualization")
TITLES = {"rewiring": "Functions on kernels"}


def public_names():
    """Returns the public objects by the folders they are defined in."""
    folders = {}
    modules = [keras_parewire]
    for module in pkgutil.iter_modules(keras_parewire.__path__):
        # Folders that the top level does not import, as it needs extras.
        if module.ispkg and module.name not in ORDER:
            name = f"keras_parewire.{module.name}"
            modules.append(importlib.import_module(name))
    for module in modules:
        for name in module.__all__:
            item = getattr(module, name)
            folder = item.__module__.split(".")[1]
            pages = folders.setdefault(folder, {})
            pages.setdefault(name, (f"{module.__name__}.{name}", item))
    known = [folder for folder in ORDER if folder in folders]
    return {
        folder: dict(sorted(folders[folder].items()))
        for folder in [*known, *sorted(set(folders) - set(known))]
    }


def write_pages(app):
    """Writes the reference's pages into `api/generated`."""
    folder = Path(app.srcdir) / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for number, (room, items) in enumerate(public_names().items()):
        module = importlib.import_module(f"keras_parewire.{room}")
        title = TITLES.get(room, room.capitalize())
        lines = [title, "=" * len(title), ""]
        if room not in TITLES:
            lines += [module.__doc__.splitlines()[0], ""]
        lines += [".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{path}" for path, _ in items.values()]
        lines += ["", ".. toctree::", "   :hidden:", ""]
        lines += [f"   {name}" for name in items]
        pages[f"index-{number}-{room}"] = lines
        for name, (path, item) in items.items():
            kind = "class" if inspect.isclass(item) else "function"
            lines = [name, "=" * len(name), "", f".. auto{kind}:: {path}"]
            if kind == "class":
                lines.append("   :members:")
            if hasattr(item, "_fields"):  # Those are in its docstring.
                lines.append(f"   :exclude-members: {', '.join(item._fields)}")
            pages[name] = lines
    for name, lines in pages.items():
        text = "\n".join(lines) + "\n"
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def to_rest(app, what, name, obj, options, lines):
    """Turns the Markdown of a docstring into reStructuredText."""
    text = "\n".join(lines)
    text = re.sub(
        r"^( *)```(\w+)\n(.*?)^ *```$",
        lambda match: (
            f"{match[1]}.. code-block:: {match[2]}\n\n"
            + re.sub(r"^(?=.)", "    ", match[3], flags=re.MULTILINE)
        ),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    # Lists: Google's style indents the lines that continue an item by 4.
    text = re.sub(
        r"^( *)- .*(\n\1 {4}(?! ).*)+",
        lambda match: match[0].replace(f"\n{match[1]}    ", f"\n{match[1]}  "),
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"\[([^]\n]+)\]\((https?://[^)\s]+)\)", r"`\1 <\2>`__", text)
    # Not the ends of links, nor what is reStructuredText already, nor examples.
    text = re.sub(
        r"^ *(?:>>>|\.\.\. ).*|(?<![`:\w>])`([^`<]+)`(?![`_])",
        lambda match: f"``{match[1]}``" if match[1] else match[0],
        text,
        flags=re.MULTILINE,
    )
    lines[:] = text.split("\n")


def setup(app):
    """Connects to the build."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", write_pages, priority=100)
    # Before Napoleon reads the sections.
    app.connect("autodoc-process-docstring", to_rest, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
