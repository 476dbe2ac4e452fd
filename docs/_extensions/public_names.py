"""Links every code word that is a public name to its page of the reference."""

import re

from api_pages import public_names
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class LinkPublicNames(SphinxTransform):
    """Replaces literals such as `rewire` or `rewire(kernel)` by links."""

    default_priority = 600

    def apply(self, **kwargs):
        paths = {
            name: path
            for items in public_names().values()
            for name, (path, _) in items.items()
        }
        for literal in list(self.document.findall(nodes.literal)):
            match = re.fullmatch(r"(\w+)(\(.*\))?", literal.astext(), re.DOTALL)
            if match is None or match[1] not in paths or _inside(literal):
                continue
            if self.env.docname.endswith(f"/{match[1]}"):
                continue  # Its own page.
            link = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=paths[match[1]],
                refdoc=self.env.docname,
                refexplicit=True,
                refwarn=True,
            )
            literal.replace_self(link)
            link += literal


def _inside(node):
    """Whether a node is in a heading or a link."""
    while node is not None:
        if isinstance(
            node,
            nodes.title | nodes.reference | addnodes.pending_xref,
        ):
            return True
        node = node.parent
    return False


def setup(app):
    """Registers the transform."""
    app.add_transform(LinkPublicNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
