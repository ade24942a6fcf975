"""How the site is built: `make docs`. The source folder is the repository's root.

So every page is where it is read on the web view of a repository too, and plain relative links
between pages, and to files that are no pages, hold in both.
"""

from __future__ import annotations

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "extensions")]
os.environ["PYTHONPATH"] = str(ROOT)  # For the notebooks' own processes.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

project = "World-model agents"
author = "the maintainers"
root_doc = "docs/index"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks", "docs")
include_patterns = [*PAGES[:3], "benchmarks/results/README.md", "docs/**.md"]
exclude_patterns = sorted(entry.name for entry in ROOT.iterdir() if entry.name not in PAGES)
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "mathml",
    "options",
    "surface",
]

myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("DOCS_NOTEBOOKS", "cache")
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = project
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "entrance.html"}
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"
templates_path = ["assets"]
