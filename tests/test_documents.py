"""The documents name only what exists, and what they show as code runs."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import shlex

import gymnasium
import jax
import numpy as np
import pytest

import common
from benchmarks.jobs.plan import AGENTS
from common.command import flags, presets
from common.command.commands import COMMANDS
from common.command.line import with_program
from common.model.world_model import world_model
from common.spaces import action_spec, observation_specs
from tests.tiny import BATCH, TINY, random_batch

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "benchmarks/results/README.md",
    "docs/agents/core.md",
    "docs/agents/dreamer.md",
    "docs/agents/planet.md",
    "docs/agents/tdmpc2.md",
    "docs/benchmark.md",
    "docs/challenges.md",
    "docs/component.md",
    "docs/distillation.md",
    "docs/environment.md",
    "docs/environments.md",
    "docs/exploration.md",
    "docs/index.md",
    "docs/logs.md",
    "docs/onnx.md",
    "docs/own_data.md",
    "docs/promises.md",
    "docs/quickstart.md",
    "docs/scaling.md",
    "docs/security.md",
    "docs/selection.md",
    "docs/tuning.md",
    "docs/watching.md",
    "docs/zoo.md",
)
MOST_LINES = 249
"""Of README.md, so that a newcomer reads it."""
HORIZON = 3
PLACE = re.compile(r"`((?:common|dreamer|planet|configs|benchmarks|tests)/[\w./-]*|[A-Z]\w+\.md)`")


def read(name: str) -> str:
    """Text of a document."""
    return (ROOT / name).read_text()


def fenced(text: str, language: str) -> list[str]:
    """Blocks of one language; those of commands have none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """A section of README.md, its subsections included."""
    return re.split(r"^## ", read("README.md").partition(f"\n## {title}\n")[2], flags=re.M)[0]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_only_what_exists(name):
    text = read(name)
    names = set(presets.preset_names())
    for words in re.findall(r"--configs ((?:[a-z][\w.]* ?)+)", text):
        for word in words.split():
            assert word in names or word.endswith(".yaml"), word
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make (train|test|lint|mutants|docs|clean)`?", text)) <= targets
    for link in re.findall(r"\]\((?!http|#)([^)\s#]+)[^)]*\)", text):
        assert (ROOT / name).parent.joinpath(link).exists(), link
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert f"## {anchor.replace('-', ' ')}\n" in text.lower(), anchor
    for place in PLACE.findall(text):
        assert (ROOT / place).exists(), place


def test_every_picture_of_the_results_is_there():
    pictures = re.findall(r"!\[[^\]]+\]\((\S+)\)", read("benchmarks/results/README.md"))
    assert len(pictures) > 5
    assert all((ROOT / "benchmarks/results" / name).stat().st_size for name in pictures)


def test_the_readme_is_short_and_names_every_preset():
    text = read("README.md")
    assert text.count("\n") <= MOST_LINES
    missing = [name for name in presets.preset_names() if f"`{name}`" not in text]
    assert missing == ["dreamer_dmc", "dreamer_v2", "dreamer_v3"]  # Parts of the others.


def test_commands_of_the_readme_are_understood():
    lines = "".join(fenced(read("README.md"), "")).splitlines()
    lines = [line for line in lines if line.partition(" ")[0] in AGENTS]
    assert len(lines) >= 10
    for line in lines:
        name, word, *rest = shlex.split(line, comments=True)
        module = importlib.import_module(f"{name}.program")
        program, commands = module.load_program(), COMMANDS | getattr(module, "COMMANDS", {})
        command = with_program(commands[word], lambda program=program: program)
        config = program.default_config if command.configured else None
        parsed = flags.parse_flags(rest, config, tuple(command.options), command.lists)
        presets.resolve(program, parsed.configs, parsed.values)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_code_parses(name):
    for block in fenced(read(name), "python"):
        ast.parse(block)


def compiled_model(*arguments):
    """The real model; each of its functions is compiled as one, which takes less time."""
    model = world_model(*arguments)
    names = ("loss", "observe", "imagine", "decode")
    return model._replace(**{name: jax.jit(getattr(model, name)) for name in names})


def test_the_component_does_what_the_readme_shows(monkeypatch):
    monkeypatch.setattr(common, "WorldModelConfig", lambda: TINY, raising=False)
    monkeypatch.setattr(common, "world_model", compiled_model, raising=False)
    image = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    observation_space = gymnasium.spaces.Dict({"image": image})
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    specs, actions = observation_specs(observation_space), action_spec(action_space)
    names = {
        "observation_space": observation_space,
        "action_space": action_space,
        "key": jax.random.key(1),
        "batch": random_batch(specs, actions),
        "actions": np.zeros((BATCH, HORIZON, actions.size), np.float32),
    }
    (block,) = fenced(section("The world model as a component"), "python")
    exec(block, names)
    assert names["frames"].shape == (BATCH, HORIZON, 64, 64, 3)
    assert np.isfinite(names["loss"]) and names["metrics"]
