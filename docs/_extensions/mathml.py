"""Renders mathematics as MathML, by docutils' own converter.

Browsers show MathML without a script, so that the pages need no MathJax.
"""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def visit_inline(translator, node):
    """Writes the MathML of an inline formula."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Writes the MathML of a displayed formula."""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    """Registers the renderer, and chooses it."""
    app.add_html_math_renderer(
        "docutils_mathml", (visit_inline, None), (visit_block, None)
    )
    app.config.html_math_renderer = "docutils_mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
