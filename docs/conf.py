"""How Sphinx builds the site: `make docs`."""

import importlib.metadata

project = "zrs"
author = "the zrs contributors"
copyright = author  # noqa: A001 -- Sphinx's name
release = importlib.metadata.version("zrs")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "write_reference.py"]
myst_heading_anchors = 3
# Pygments has no lexer for ZConfig, which is similar enough to XML for XML's highlighting.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_title = f"zrs {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# The role of single backticks in docstrings.
default_role = "py:obj"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
