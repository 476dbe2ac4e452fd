"""Shows a script in the form of Keras' code examples in the gallery.

There, text in Markdown stands in strings between the code, and the first string
has the facts. The gallery wants a title, and text in comments.
"""

import re
from pathlib import Path


def to_gallery(text):
    """Returns a script of keras.io as one of Sphinx-Gallery."""
    _, facts, *parts = re.split(r'^"""\n(.*?)^"""\n', text, flags=re.M | re.S)
    title, *others = re.findall(r"^(.+?): (.+)$", facts, re.M)
    lines = ['"""', title[1], "=" * len(title[1]), ""]
    lines += [f":{name}: {value}" for name, value in others]
    blocks = ["\n".join([*lines, '"""'])]
    # Code and text in turns.
    for number, part in enumerate(parts):
        part = part.strip("\n")
        if number % 2:
            part = _rest(part)
            part = re.sub("^", "# ", part, flags=re.M).replace("# \n", "#\n")
            part = f"# %%\n{part}"
        if part:
            blocks.append(part)
    return "\n\n".join(blocks) + "\n"


def _rest(text):
    """Returns Markdown as reStructuredText."""
    text = re.sub(
        r"^## (.+)$",
        lambda found: f"{found[1]}\n{'-' * len(found[1])}",
        text,
        flags=re.M,
    )
    return re.sub(r"\[([^]]+)\]\((https?:[^)]+)\)", r"`\1 <\2>`__", text)


def write(source, target):
    """Writes the gallery's version of a script, if it has changed."""
    text = to_gallery(Path(source).read_text(encoding="utf-8"))
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
