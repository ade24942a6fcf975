"""The directive ``options``: a table of options, read from the dataclasses that check them.

    ```{options} dreamer
    :presets: V1 = dreamer_v1, V3 = dmc_vision_v3 size_12m

    behavior.horizon
    behavior.lambda_
    ```

Each line names one option of that agent. The columns are its name with what its dataclass says of
it, and its value with each of the presets, or by default without any. A name that is none fails the
build.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from common.command.flags import attribute_docs
from common.command.presets import resolve
from common.config import Option, options
from common.errors import UserError, nearest


@functools.cache
def configuration(agent: str, presets: tuple[str, ...] = ()) -> dict[str, Option]:
    """Returns every option of an agent by its path, as presets set them.

    Raises:
        UserError: There is no such agent, or no such preset.
    """
    try:
        program = importlib.import_module(f"{agent}.program").load_program()
    except ModuleNotFoundError as error:
        raise UserError(f"there is no agent {agent!r}; expected dreamer or planet") from error
    config = resolve(program, presets) if presets else program.default_config
    return {option.path: option for option in options(config)}


def shown(value: Any) -> str:
    """Returns a value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(shown, value)) or "empty"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "empty" if value in ("", None) or value == {} else str(value)


def columns(text: str) -> dict[str, tuple[str, ...]]:
    """Reads ``V1 = dreamer_v1, V3 = dmc_vision_v3 size_12m`` as presets by title."""
    found = {}
    for part in filter(str.strip, text.split(",")):
        title, equals, names = part.partition("=")
        if not equals or not names.split():
            raise UserError(f"{part.strip()!r} is no column; expected <title> = <presets>")
        found[title.strip()] = tuple(names.split())
    return found


def table(agent: str, names: list[str], shows: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yields the lines of a table in Markdown.

    Args:
        agent: "dreamer" or "planet".
        names: Paths of options.
        shows: Presets by the title of their column; none for the defaults.

    Raises:
        UserError: An option, a preset or an agent that does not exist.
    """
    known = configuration(agent)
    shows = shows or {"default": ()}
    sets = [configuration(agent, presets) for presets in shows.values()]
    yield "| option | " + " | ".join(shows) + " |"
    yield "|---|" + "---|" * len(shows)
    for name in names:
        if name not in known:
            raise UserError(f"{agent} has no option {name!r}{nearest(name, known)}")
        says = attribute_docs(known[name].owner)[name.rpartition(".")[2]].replace("|", r"\|")
        values = " | ".join(f"`{shown(each[name].value)}`" for each in sets)
        yield f"| `--{name}` {says} | {values} |"


class Options(SphinxDirective):
    """The directive; see above."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"presets": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Returns the table."""
        names = [line.strip() for line in self.content if line.strip()]
        try:
            shows = columns(self.options.get("presets", ""))
            lines = list(table(self.arguments[0], names, shows))
        except UserError as error:
            raise self.error(str(error)) from error
        box = nodes.container(classes=["options"])
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), 0, box)
        return [box]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
