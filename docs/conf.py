"""Configuration of the documentation site.

    sphinx-build -W docs output/docs

builds it offline, gallery included, with every warning an error.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_extensions"), str(DOCS / "interactive")]

# The gallery trains small networks, for which JAX needs the least time.
if "KERAS_BACKEND" not in os.environ:
    for backend in ("jax", "tensorflow", "torch"):
        if importlib.util.find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            break
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_io
import rewiring_figure
from sphinx_gallery.scrapers import figure_rst

import keras_parewire

project = "keras_parewire"
author = "the keras_parewire authors"
copyright = author
version = release = keras_parewire.__version__

extensions = [
    "api_pages",
    "mathml",
    "public_names",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "gallery",
    "interactive",
    "measurements",
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
suppress_warnings = ["config.cache"]  # Functions in the gallery's settings.

# A code word in the gallery.
default_role = "code"

# Guides are written in Markdown.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Docstrings are those of Keras: Google's style in Markdown.
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autosummary_generate = False
python_maximum_signature_line_length = 72
napoleon_custom_sections = [("Call arguments", "params_style"), "Reference"]
napoleon_use_admonition_for_examples = False
napoleon_use_rtype = False
add_module_names = False

# The examples of docstrings are tested with the package.
doctest_test_doctest_blocks = ""
doctest_global_setup = """
import keras
import numpy as np
from keras_parewire import *
keras.utils.set_random_seed(0)
"""


def show_figure(block, variables, settings):
    """Shows the `figure` that a block ends with, as a notebook does."""
    if not block[1].rstrip().endswith("\nfigure"):
        return ""  # Those of pyplot are shown anyway.
    path = next(variables["image_path_iterator"])
    variables["example_globals"]["figure"].savefig(path)
    return figure_rst([path], settings["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["gallery_pages"],
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)paired_study",  # Becomes `plot_9_paired_study`.
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "image_scrapers": ("matplotlib", show_figure),
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "first_notebook_cell": (DOCS / "install_cell.py").read_text().strip(),
    "backreferences_dir": None,
}

html_theme = "furo"
html_title = "keras_parewire"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["interactive/site"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1d5f8a",
        "color-brand-content": "#1d5f8a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc0ea",
        "color-brand-content": "#7cc0ea",
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

rewiring_figure.write(DOCS / "interactive" / "site" / "rewiring.html")
keras_io.write(
    DOCS / "gallery" / "paired_study.py",
    DOCS / "gallery" / "plot_9_paired_study.py",
)

# What the repository says on contributing. Its links to other files of the
# repository lead nowhere here.
text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
text = re.sub(r"\[([^]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)
(DOCS / "guides" / "repository.inc").write_text(text, encoding="utf-8")
