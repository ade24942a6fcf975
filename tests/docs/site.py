"""The site's pages, and the extensions that build it, for its tests."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import re
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/results/README.md")
"""Pages that are not in docs."""


def pages() -> dict[str, str]:
    """Text of every page by its path from the root."""
    found = [*(ROOT / name for name in OUTSIDE), *DOCS.rglob("*.md")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(found)}


def extension(name: str) -> types.ModuleType:
    """A module of docs/extensions, which are no package: Sphinx finds them by their path."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def directives(text: str, name: str) -> list[tuple[str, dict[str, str], list[str]]]:
    """Argument, options and lines of every directive of a name on a page."""
    found = []
    pattern = rf"^```\{{{name}\}} ?([^\n]*)\n(.*?)^```$"
    for argument, body in re.findall(pattern, text, re.DOTALL | re.MULTILINE):
        options = dict(re.findall(r"^:([\w-]+): ?(.*)$", body, re.MULTILINE))
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith(":")]
        found.append((argument, options, lines))
    return found


def referred(surface: types.ModuleType) -> set[str]:
    """Full names that the pages of the reference ask Sphinx for, with those of ``:members:``.

    Args:
        surface: The extension that says what a class offers.
    """
    found = set()
    text = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    for kind, name, options in re.findall(
        r"^\.\. auto(\w+):: (\S+)\n((?: +:[^\n]*\n)*)", text, re.MULTILINE
    ):
        found.add(name)
        asked = re.search(r":members:(.*)", options)
        listed = {part.strip() for part in asked[1].split(",") if part.strip()} if asked else set()
        found |= {f"{name}.{member}" for member in listed}
        if asked and not listed:
            members = [name] if kind == "class" else own_members(name)
            found |= {*members, *(one for member in members for one in surface.offered(member))}
    return found


def own_members(name: str) -> list[str]:
    """Full names of the public functions and classes that a module defines."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", vars(module))
    return [
        f"{name}.{member}" for member in listed
        if not member.startswith("_") and getattr(getattr(module, member), "__module__", "") == name
    ]  # fmt: skip


def slug(title: str) -> str:
    """The anchor of a heading, as web views of repositories and MyST make it."""
    plain = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]|\]\([^)]*\)", "", title).lower())
    return plain.strip().replace(" ", "-")
