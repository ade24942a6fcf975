"""Whether the reference shows all that is public; what it leaves out fails the build.

Public are the names that ``MODULES`` list in ``__all__``, with what their classes offer, and
whatever a page of this site imports in its code: a reader will look it up.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

MODULES = ("common", "dreamer", "planet", "common.envs", "common.logging")
OWN = re.compile(r"(common|dreamer|planet)(\.|$)")
CODE = re.compile(r"^```(?:python|\{code-cell\}[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPTIONS_OF_A_CELL = re.compile(r"\A(?:---\n.*?---\n|(?::[\w-]+:[^\n]*\n)+)", re.DOTALL)
log = logging.getLogger(__name__)


def code(text: str) -> list[str]:
    """Returns the Python of a page, block by block, without the options of notebooks' cells."""
    return [OPTIONS_OF_A_CELL.sub("", block) for block in CODE.findall(text)]


def imported(source: str) -> Iterator[str]:
    """Yields the full names that code imports from this package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and OWN.match(node.module or ""):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def public() -> set[str]:
    """Returns the full names that the packages declare public."""
    return {
        f"{name}.{member}" for name in MODULES for member in importlib.import_module(name).__all__
    }


def find(name: str) -> Any:
    """Returns the object of a full name: a module, what it holds, or what a class of it does."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        owner, _, member = name.rpartition(".")
        found = find(owner)
        return (getattr if inspect.ismodule(found) else inspect.getattr_static)(found, member)


def offered(name: str) -> Iterator[str]:
    """Yields the names of what a class of this package offers itself: methods, properties."""
    owner = find(name)
    if not inspect.isclass(owner) or not OWN.match(owner.__module__):
        return
    for member, value in vars(owner).items():
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        ours = getattr(value, "__module__", owner.__module__) == owner.__module__
        if ours and not member.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, property)
        ):  # fmt: skip
            yield f"{name}.{member}"


def missing(shown: set[str], pages: dict[str, str]) -> list[str]:
    """Says what the reference leaves out, a line each.

    Args:
        shown: Full names that it has.
        pages: Text by the name of a page.
    """
    names = {name: "is public" for name in public()}
    for page, text in pages.items():
        for name in (name for block in code(text) for name in imported(block)):
            names.setdefault(name, f"is imported on the page {page}")
    for name in list(names):
        if name in shown and not inspect.ismodule(find(name)):
            names |= {member: f"is what {name} offers" for member in offered(name)}
    left_out = {name: why for name, why in names.items() if name not in shown}
    return [f"{name} {why}, and docs/api shows none" for name, why in sorted(left_out.items())]


def undocumented(shown: set[str]) -> list[str]:
    """Says which names that the reference has are explained by nothing, a line each.

    Data have no docstring to be asked for; Sphinx shows the one that follows them.
    """
    found = {name: find(name) for name in sorted(shown)}
    return [
        f"{name} has no docstring" for name, one in found.items()
        if (inspect.isroutine(one) or isinstance(one, type | property | types.ModuleType))
        and not inspect.getdoc(one)
    ]  # fmt: skip


def _check(app: Sphinx, env: BuildEnvironment) -> None:
    domain = env.domains.python_domain
    shown = {*domain.objects, *domain.modules}
    pages = {page: pathlib.Path(env.doc2path(page)).read_text() for page in env.found_docs}
    for line in missing(shown, pages):
        log.warning(line)
    fields = {name for name, entry in domain.objects.items() if entry.objtype == "attribute"}
    for line in undocumented(shown - fields):
        log.warning(line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Looks once all pages are read."""
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
