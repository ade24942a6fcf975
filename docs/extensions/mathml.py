"""Formulas as MathML, which browsers set themselves: no script, no font, nothing from the net."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def convert(formula: str, block: bool, location: nodes.Node | None = None) -> str:
    """Returns MathML of a formula in LaTeX; of one that is none, its text and a warning."""
    try:
        return tex2mathml(formula, as_block=block)
    except MathError as error:
        log.warning("no formula: %s: %s", error, formula, location=location)
        return f"<code>{nodes.unescape(formula)}</code>"


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), False, node))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{convert(node.astext(), True, node)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer under the name that ``html_math_renderer`` asks for."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
