"""What this site needs besides the extensions of Sphinx."""

import re
from pathlib import Path

import rewiring_figure
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

import keras_parewire
from keras_parewire import studies

PAGES = {name: f"keras_parewire.{name}" for name in keras_parewire.__all__}
PAGES |= {name: f"keras_parewire.studies.{name}" for name in studies.__all__}


class LinkPublicNames(SphinxTransform):
    """Links code words such as `rewire` or `rewire(kernel)` to their pages."""

    default_priority = 600

    def apply(self, **kwargs):
        linked = nodes.title | nodes.reference | addnodes.pending_xref
        for literal in list(self.document.findall(nodes.literal)):
            name = re.sub(r"\(.*\)$", "", literal.astext(), flags=re.DOTALL)
            node = literal
            while node is not None and not isinstance(node, linked):
                node = node.parent
            own_page = self.env.docname.endswith(f".{name}")
            if node is not None or own_page or name not in PAGES:
                continue
            link = addnodes.pending_xref(
                refdomain="py",
                reftype="obj",
                reftarget=PAGES[name],
                refdoc=self.env.docname,
                refexplicit=True,
                refwarn=True,
            )
            literal.replace_self(link)
            link += literal


def read_markdown(app, what, name, obj, options, lines):
    """Turns Keras' docstrings in Markdown into reStructuredText."""
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
    lines[:] = text.split("\n")


def visit_inline(translator, node):
    """Writes a formula as MathML, which browsers show without a script."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Writes the MathML of a displayed formula."""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def write_figure(app, error):
    """Writes the page of the interactive figure beside the others."""
    if error is None and app.builder.format == "html":
        rewiring_figure.write(Path(app.outdir) / "rewiring.html")


def setup(app):
    """Connects to the build."""
    app.add_transform(LinkPublicNames)
    # Before Napoleon reads the sections.
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", read_markdown, priority=100)
    app.add_html_math_renderer(
        "mathml", (visit_inline, None), (visit_block, None)
    )
    app.config.html_math_renderer = "mathml"
    app.connect("build-finished", write_figure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
