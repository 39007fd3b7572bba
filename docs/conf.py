"""Sphinx configuration."""

import mofang

project = "Mofang"
author = "The Mofang developers"
copyright = "2026, the Mofang developers"
version = release = mofang.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = "Mofang 模坊"
exclude_patterns = ["_build"]
