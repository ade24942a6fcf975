"""The site: every page is found, no link is dead, and what it shows is what the code has."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.errors import UserError
from common.spaces import action_spec
from tests.docs.site import DOCS, ROOT, directives, extension, pages, referred, slug
from tests.test_documents import fenced

PAGES = pages()
MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


def without_code(text: str) -> str:
    """A page without its blocks and its quoted words."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def test_every_page_is_found_from_the_first():
    waiting, found = ["docs/index.md"], set()
    while waiting:
        page = waiting.pop()
        found.add(page)
        for _, _, lines in directives(PAGES[page], "toctree"):
            for line in lines:
                name = re.sub(r".*<(.*)>", r"\1", line)
                path = (ROOT / page).parent.joinpath(f"{name}.md").resolve()
                waiting.append(str(path.relative_to(ROOT)))
    assert found == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page):
    text, here = without_code(PAGES[page]), (ROOT / page).parent
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text)
    links += [(name, "") for name in re.findall(r"\{figure\} (\S+)", PAGES[page])]
    for name, anchor in links:
        path = (here / name).resolve() if name else ROOT / page
        assert path.exists(), name
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in map(slug, titles), f"{name}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_can_be_set(page):
    mathml = extension("mathml")
    for block, line in MATHS.findall(without_code(PAGES[page])):
        found = mathml.tex2mathml(block or line, as_block=bool(block))
        assert found.startswith("<math")


def test_the_agents_pages_have_formulas():
    for name in ("core", "planet", "dreamer", "tdmpc2"):
        assert len(MATHS.findall(PAGES[f"docs/agents/{name}.md"])) > 10


def test_tables_of_options_are_of_options_that_exist():
    options, tables = extension("options"), 0
    for text in PAGES.values():
        for agent, given, names in directives(text, "options"):
            lines = list(options.table(agent, names, options.columns(given.get("presets", ""))))
            assert len(lines) == len(names) + 2 == len(set(names)) + 2
            tables += 1
    assert tables >= 5


def test_a_table_of_options_says_what_presets_set():
    options = extension("options")
    shows = options.columns("V1 = dreamer_v1, V3 = dmc_vision_v3 size_12m")
    *_, line = options.table("dreamer", ["behavior.include_start"], shows)
    assert line.startswith("| `--behavior.include_start` Whether the replayed start state")
    assert line.endswith(" | `false` | `true` |")
    *_, line = options.table("dreamer", ["behavior.horizon"], {})
    assert line.endswith(" | `15` |")


@pytest.mark.parametrize(
    ("agent", "name", "presets", "message"),
    [
        ("dreamer", "behavior.horizo", "", "has no option 'behavior.horizo'; did you mean"),
        ("dreamerr", "behavior.horizon", "", "no agent 'dreamerr'; expected dreamer or planet"),
        ("dreamer", "behavior.horizon", "V1 dreamer_v1", "no column; expected <title> = <presets>"),
        ("dreamer", "behavior.horizon", "V1 = dreamer_v9", "dreamer_v9"),
    ],
)
def test_a_table_of_what_is_no_option(agent, name, presets, message):
    options = extension("options")
    with pytest.raises(UserError, match=re.escape(message)):
        list(options.table(agent, [name], options.columns(presets)))


def promised() -> list[str]:
    """Tests that the page of promises names."""
    return re.findall(r"`(tests/[\w/.]+::\w+)`", PAGES["docs/promises.md"])


def test_every_promise_names_its_tests():
    points = re.findall(r"^- .+(?:\n  .+)*", PAGES["docs/promises.md"], re.MULTILINE)
    assert len(points) >= 20
    assert all(re.search(r"\((`tests/[^)]+`|[^)]*\]\()", point) for point in points)


@pytest.mark.parametrize("name", sorted(set(promised())))
def test_the_tests_of_promises_exist(name):
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_the_reference_has_all_that_is_public_or_imported_on_a_page():
    surface = extension("surface")
    shown = referred(surface)
    assert surface.missing(shown, PAGES) == [] == surface.undocumented(shown)
    fewer = shown - {"common.logging.Sink.flush", "dreamer.load"}
    lines = "\n".join(surface.missing(fewer, PAGES))
    assert "common.logging.Sink.flush is what common.logging.Sink offers" in lines
    assert "dreamer.load is public" in lines and lines.count("\n") == 1


def test_what_the_reference_leaves_out_is_named(monkeypatch):
    surface = extension("surface")
    everything = surface.public()
    assert {"common.world_model", "dreamer.load", "planet.cem", "common.envs.make"} <= everything
    page = {"page": "```python\nfrom common.nets.heads import HeadConfig\n```\n"}
    assert "dreamer.load is public, and docs/api shows none" in surface.missing(set(), {})
    lines = "\n".join(surface.missing(everything, page))
    assert "dreamer.load" not in lines and "common.logging.Sink.flush" in lines
    assert "common.nets.heads.HeadConfig is imported on the page page" in lines
    whole = everything | {f"planet.Future.{name}" for name in ("returns",)}
    assert "planet.Future" in lines and "planet.Future" not in "\n".join(surface.missing(whole, {}))
    assert surface.undocumented({"common.world_model", "common.rows.COST"}) == []
    monkeypatch.setattr(action_spec, "__doc__", None)
    said = surface.undocumented({"common.world_model", "common.spaces.action_spec"})
    assert said == ["common.spaces.action_spec has no docstring"]


def test_code_of_pages_is_read_without_the_options_of_cells():
    surface = extension("surface")
    text = "```{code-cell} ipython3\n:tags: [hide-input]\n\nimport dreamer\n```\n"
    assert surface.code(text) == ["\nimport dreamer\n"]
    names = surface.imported("from common.envs import make, EnvConfig\nfrom numpy import pi")
    assert list(names) == ["common.envs.make", "common.envs.EnvConfig"]


def test_docstrings_become_markup():
    prepare = extension("docstrings").prepared
    text = "Sums ``a_`` and lambda_ of |x|.\n\n    G = r_ + |x|\n\nArgs:\n    lambda_: Of *it*."
    assert list(prepare(text.split("\n"))) == [
        r"Sums ``a_`` and lambda\_ of \|x\|.", "", "::", "", "    G = r_ + |x|", "",
        "Args:", r"    lambda_: Of \*it\*.",
    ]  # fmt: skip


def test_the_corridor_is_what_its_page_says():
    (block,) = fenced(PAGES["docs/environment.md"], "python")
    names = {}
    exec(block, names)
    envs = make(names["make"], EnvConfig(workers="none", time_limit=50), 0, 1)
    try:
        rows = envs.reset() if hasattr(envs, "reset") else envs.step(np.zeros((1, 2)))
        assert rows["is_first"].all()
        for _ in range(8):
            rows = envs.step(np.array([[0.0, 1.0]], np.float32))
        assert rows["is_terminal"].all() and rows["reward"] == [1.0]
    finally:
        envs.close()


def test_the_planner_of_planets_page_finds_the_way():
    (block,) = fenced(PAGES["docs/agents/planet.md"], "python")
    names = {"spec": action_spec(gymnasium.spaces.Box(-1, 1, (1,)))}
    exec(block, names)
    assert names["plan"].action[0, 0] > 0.5


def build(target: pathlib.Path, **environment: str) -> subprocess.CompletedProcess:
    """Builds the site as `make docs` does, without executing notebooks."""
    words = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS), str(ROOT), str(target)]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *words], capture_output=True, text=True,
        env={**os.environ, "DOCS_NOTEBOOKS": "off", **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "docs/index.html" in (tmp_path / "index.html").read_text()
    assert "<math" in (tmp_path / "docs/agents/dreamer.html").read_text()
    assert (tmp_path / "benchmarks/results/README.html").exists()
    assert 'id="common.world_model"' in (tmp_path / "docs/api/world_model.html").read_text()
    from_the_net = re.compile(r'<(?:script|img|link)[^>]*(?:src|href)="https?:')
    for path in tmp_path.rglob("*.html"):
        assert not from_the_net.search(path.read_text()), path


SHOWS = {
    "world_model": "assert same and apart[SEEN:].mean() < still[SEEN:].mean()",
    "look_inside": "assert result.finished and len(values) == len(seen) == len(states.deter) + 1\n"
    "assert found.value[0] >= np.median(at_random)",
}
"""What holds of a notebook's names at its end."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (DOCS / "notebooks").glob("*.md")))
def test_a_notebook_runs(name, tmp_path):
    """In a process of its own: what is compiled fast, as in tests, would learn slowly."""
    blocks = extension("surface").code(PAGES[f"docs/notebooks/{name}.md"])
    (tmp_path / "notebook.py").write_text("\n".join([*blocks, SHOWS[name]]))
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True,
        env={**environment, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
