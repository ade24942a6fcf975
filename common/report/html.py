"""Pieces of HTML that every report is made of."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Iterable

from common.files import replacing
from common.report.style import STYLE


def escape(value: object) -> str:
    """Returns a value as text that may stand in a page."""
    return html.escape(str(value))


def section(title: str, body: str) -> str:
    """Returns HTML under a heading."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def note(text: str) -> str:
    """Returns a remark, such as what is missing."""
    return f'<p class="note">{escape(text)}</p>'


def document(title: str, subtitle: str, sections: Iterable[str], style: str = "") -> str:
    """Returns a whole page that loads nothing.

    Args:
        title: Its title, as text.
        subtitle: The line below, as HTML.
        sections: Its content, as HTML.
        style: Style sheet after the common one.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{subtitle}</p></header>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def write_page(path: pathlib.Path, page: str) -> pathlib.Path:
    """Writes a page so that readers see the old one or the new one, and returns its path.

    Raises:
        UserError: The page cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
