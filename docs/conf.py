"""Configuration of the documentation site.

    sphinx-build -W docs output/docs

builds it offline, gallery included, with every warning an error.
"""

import importlib.util
import os
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

from sphinx_gallery.scrapers import figure_rst

import keras_parewire

project = "keras_parewire"
author = "the keras_parewire authors"
copyright = author
version = release = keras_parewire.__version__

extensions = [
    "site_parts",
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

templates_path = ["_templates"]

# A code word in docstrings and the gallery.
default_role = "code"

# Guides are written in Markdown.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Docstrings are those of Keras: Google's style in Markdown.
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
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
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
