"""How Sphinx makes the book. Its source is staged by `python -m tools.book`, which is what to run."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import minilip  # noqa: E402
from tools.book import pages  # noqa: E402
from tools.build import Course  # noqa: E402

COURSE = Course(ROOT)  # all of it; the lessons that are staged make the book

project = "minilip"
author = "The minilip authors"
copyright = "text and figures CC BY 4.0, code MIT"
version = release = minilip.__version__
language = "en"

extensions = ["myst_nb", "sphinx_copybutton"]
templates_path: list[str] = []
exclude_patterns: list[str] = []
nb_execution_mode = "off"  # the outputs are the committed ones
nb_render_markdown_format = "myst"  # tables and formulas in outputs
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
smartquotes = False
copybutton_selector = "div.highlight pre:not(.output pre)"
python_maximum_signature_line_length = 70
toc_object_entries_show_parents = "hide"
add_module_names = False

mathjax_path = "mathjax/tex-mml-chtml.js"

html_theme = "sphinx_book_theme"
html_title = "minilip"
html_static_path = ["_static", "_build/static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "repository_url": f"https://github.com/{COURSE.repository}",
    "path_to_docs": "",
    "launch_buttons": {"colab_url": "https://colab.research.google.com", "notebook_interface": "jupyterlab"},
    "use_repository_button": True,
    "use_download_button": True,
    "home_page_in_toc": True,
    "show_toc_level": 2,
}


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Notebooks as the book shows them; the committed ones stay what is downloaded."""
    path = app.env.doc2path(docname, base=False)
    if str(path).endswith(".ipynb"):
        source[0] = pages.read_notebook(source[0], str(path), Path(app.srcdir), COURSE)


def unsplit(app: Sphinx, doctree: nodes.document) -> None:
    """Formulas as they are written: the environment that Sphinx puts around one of several lines allows no tag."""
    for node in doctree.findall(nodes.math_block):
        if not (node.get("no-wrap") or node.get("nowrap")):
            node.children = [nodes.Text(rf"\[{node.astext()}\]")]
            node["no-wrap"] = node["nowrap"] = True  # what it is called in new and in old releases


def unsearched(app: Sphinx, doctree: nodes.document) -> None:
    """A search spoils no exercise."""
    if app.env.docname.startswith("solutions/"):
        app.env.metadata[app.env.docname]["nosearch"] = "yes"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    app.connect("doctree-read", unsplit)
    app.connect("doctree-read", unsearched)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
