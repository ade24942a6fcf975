"""Presets: their composition, by files of the tests' own."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

import common
from common.command import presets
from common.envs.dmc import SHORT_NAMES, written_out
from common.errors import UserError
from common.run.program import Program
from dreamer.program import load_program
from tests.nested import Inner, Outer


@dataclasses.dataclass(frozen=True)
class Following(Outer):
    """One whose ``where`` follows from other options."""

    task: str = "dmc_walker_walk"

    def settled(self) -> Following:
        """Writes it out."""
        return dataclasses.replace(self, where=f"{self.name} of {self.first.size}")


class TestPresets:
    """Composition, by files of the test's own."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(presets, "FOLDER", tmp_path)
        self.write = lambda name, text: (tmp_path / f"{name}.yaml").write_text(text)
        self.folder = tmp_path

    def test_later_ones_win_and_mappings_merge(self):
        self.write("a", "x: {y: 1, z: 2}\nw: 1\n")
        self.write("b", "x.z: 3\n")
        assert presets.load_presets(["a", "b"], "dreamer") == {"x": {"y": 1, "z": 3}, "w": 1}
        assert presets.load_presets(["b", "a"], "dreamer")["x"] == {"z": 2, "y": 1}
        assert presets.load_presets([], "dreamer") == {}

    def test_includes_come_before_the_file(self):
        self.write("a", "x: 1\ny: 1\n")
        self.write("b", "includes: a\ny: 2\n")
        self.write("c", "includes: [b]\nz: 3\n")
        assert presets.load_presets(["c"], "dreamer") == {"x": 1, "y": 2, "z": 3}

    def test_agents_take_only_their_own_values(self):
        self.write("a", "x: 1\nagents: {dreamer: {x: 2}, planet: {z: 3}}\n")
        assert presets.load_presets(["a"], "dreamer") == {"x": 2}
        assert presets.load_presets(["a"], "planet") == {"x": 1, "z": 3}

    def test_a_preset_is_read_once_however_often_it_is_included(self):
        for n in range(30):  # A thousand million ways to the last.
            self.write(f"n{n}", f"includes: [n{n + 1}, n{n + 1}]\nx: {{n{n}: {n}}}\n")
        self.write("n30", "x: {y: 1}\n")
        found = presets.load_presets(["n0", "n1"], "dreamer")
        assert found["x"] == {"y": 1} | {f"n{n}": n for n in range(30)}

    def test_a_circle_by_other_spellings_is_one(self, monkeypatch):
        monkeypatch.chdir(self.folder)
        self.write("a", "includes: [./b.yaml]\n")
        self.write("b", f"includes: [../{self.folder.name}/a.yaml]\n")
        with pytest.raises(UserError, match="includes itself: a -> ./b.yaml -> .*a.yaml"):
            presets.load_presets(["a"], "dreamer")

    def test_tasks_take_what_is_for_their_names(self):
        self.write("a", "x: 1\ntasks: {dmc_*: {x: 2, y: 2}, dmc_walker_*: {y: 3}, other: }\n")
        self.write("b", "includes: a\nagents: {dreamer: {z: 4, tasks: {'*_walk': {z: 5}}}}\n")
        load = lambda *given: presets.load_presets(*given)  # noqa: E731
        assert load(["a"], "dreamer") == load(["a"], "dreamer", "gym_dmc_x") == {"x": 1}
        assert load(["a"], "dreamer", "dmc_cup_catch") == {"x": 2, "y": 2}
        assert load(["a"], "planet", "dmc_walker_walk@3") == {"x": 2, "y": 3}
        assert load(["b"], "dreamer", "dmc_walker_walk") == {"x": 2, "y": 3, "z": 5}
        assert load(["b"], "dreamer", "dmc_walker_run, dmc_walker_walk") == {"x": 2, "y": 3, "z": 4}
        assert load(["b"], "planet", "dmc_cup_catch,walker_walk") == {"x": 1}
        assert load(["a"], "dreamer", len) == {"x": 1}

    def test_the_task_is_the_one_that_the_run_has(self):
        self.write("a", "task: gym_x\ntasks: {gym_*: {name: g}, dmc_*: {name: d}}\n")
        self.write("b", "task: dmc_y\n")
        program = Program("dreamer", Following(), None)
        find = lambda *given: presets.resolve(program, *given).name  # noqa: E731
        assert find(["a"]) == "g" and find(["a", "b"]) == "d" == find(["b", "a"], {"task": "dmc_z"})
        assert find(["a"], {"task": "dmc_z"}) == "d" and find(["a"], {"task": "other"}) == "x"
        assert find(["a"], {"task": "dmc_z"}, {"name": "own"}) == "own"

    def test_a_path_names_a_file_of_the_users(self):
        self.write("a", "x: 1\n")
        own = self.folder / "own"
        own.mkdir()
        (own / "mine.yaml").write_text("includes: a\ny: 2\n")
        assert presets.load_presets([str(own / "mine.yaml")], "dreamer") == {"x": 1, "y": 2}

    def test_descriptions_are_first_comments(self):
        self.write("a", "# What it is for\nx: 1\n")
        self.write("b", "x: 1\n")
        assert presets.preset_descriptions() == {"a": "What it is for", "b": ""}

    def test_resolve_puts_values_over_presets_over_defaults(self):
        self.write("a", "first: {size: 4, rate: 1}\nkwargs: {x: 1, y: 2}\nname: a\n")
        self.write("b", "agents: {dreamer: {first.size: 5}}\n")
        program = Program("dreamer", Following(flag=True), None)
        flags = {"first.rate": "3", "kwargs.y": 4}
        config = presets.resolve(program, ["a", "b"], flags, {"name": "c"})
        expected = Following(first=Inner(5, 3.0), flag=True, kwargs={"x": 1, "y": 4}, name="c")
        assert config == dataclasses.replace(expected, where="c of 5")
        assert presets.resolve(program) == Following(flag=True, where="x of 2")
        with pytest.raises(UserError, match="unknown option 'nome'; did you mean 'name'"):
            presets.resolve(program, ["a"], {"nome": "d"})

    @pytest.mark.parametrize(
        "name, message",
        [
            ("alfa", "unknown preset 'alfa'; did you mean 'alpha'?"),
            ("missing.yaml", "cannot read missing.yaml"),
            ("circle", "preset 'circle' includes itself: circle -> back -> circle"),
            ("agent", "preset 'agent' has values for the unknown agent 'dreemer'; did you mean"),
            ("module", "preset 'module' has values for the unknown agent 'json'; choose from: "),
            ("number", "preset 'number': includes must be a list of names of presets"),
            ("numbers", "preset 'numbers': includes must be a list of names of presets"),
            ("listed", "preset 'listed': agents must be a mapping from agents to their options"),
            ("value", "preset 'value': agents.dreamer must be a mapping of options"),
            ("tasks", "preset 'tasks': tasks must be a mapping from patterns to options"),
            ("of_task", "preset 'of_task': tasks.a* must be a mapping of options other than task"),
            ("moved", "preset 'moved': tasks.a* must be a mapping of options other than task"),
            ("dots", "has 101 parts"),
            ("n0", "preset 'n32' is included by 32 presets, one by the other"),
        ],
    )
    def test_refuses(self, name, message):
        self.write("alpha", "x: 1\n")
        self.write("circle", "includes: back\n")
        self.write("back", "includes: circle\n")
        self.write("agent", "agents: {dreemer: {x: 1}}\n")
        self.write("module", "agents: {json: {x: 1}}\n")
        self.write("number", "includes: 3\n")
        self.write("numbers", "includes: [alpha, 3]\n")
        self.write("listed", "agents: [dreamer]\n")
        self.write("tasks", "tasks: [a]\n")
        self.write("of_task", "tasks: {a*: 3}\n")
        self.write("moved", "tasks: {a*: {task: b}}\n")
        self.write("value", "agents: {dreamer: 3}\n")
        self.write("dots", "a." * 100 + "b: 3\n")
        for n in range(40):
            self.write(f"n{n}", f"includes: n{n + 1}\n")
        with pytest.raises(UserError) as caught:
            presets.load_presets([name], "dreamer")
        assert message in str(caught.value)


def test_presets_lie_beside_the_package():
    assert presets.FOLDER == pathlib.Path(common.__file__).parent.parent / "configs"
    expected = {"quickstart", "debug", "dmc_vision", "dmc_proprio", "atari", "atari_paper"}
    expected |= {"atari100k", "dreamer_v1", "crafter", "size_xs", "size_s", "size_m", "size_l"}
    assert expected | {"size_xl"} <= set(presets.preset_names())
    assert all(presets.preset_descriptions().values())


@pytest.mark.parametrize("agent", presets.known_agents())
def test_short_names_of_tasks_take_what_is_for_the_names_written_out(agent):
    for preset in presets.preset_names():
        for short in (f"dmc_{name}{body}" for name in SHORT_NAMES for body in ("", "@3")):
            found = presets.load_presets([preset], agent, short)
            assert found == presets.load_presets([preset], agent, written_out(short)), preset
    assert written_out("dmc_cup_catch@3") == "dmc_ball_in_cup_catch@3"
    assert written_out("gym_cup_catch") == "gym_cup_catch"


REPEATS = {"cartpole_swingup": 8, "reacher_easy": 4, "ball_in_cup_catch": 4, "walker_walk": 2}


@pytest.mark.parametrize("task, repeat", REPEATS.items())
def test_the_quickstarts_discount_is_one_per_second_whatever_the_action_repeat(task, repeat):
    program = load_program()
    model = presets.resolve(program, ["quickstart"], {"task": f"dmc_{task}"}).world_model
    assert model.discount_factor == pytest.approx(0.98 ** (repeat / 4), rel=1e-12)
    # Two seconds of a hundred simulator steps each, in steps of the agent.
    assert model.discount_factor ** (200 / repeat) == pytest.approx(0.98**50, rel=1e-9)
    values = {"task": f"dmc_{task}", "env.action_repeat": 5}
    chosen = presets.resolve(program, ["quickstart"], values).world_model
    assert chosen.discount_factor == pytest.approx(0.98 ** (5 / 4), rel=1e-12)


def test_a_settled_configuration_stays_as_it_is():
    program = load_program()
    config = presets.resolve(program, ["quickstart"])
    assert config.settled() == config
    again = presets.resolve(program, [], dataclasses.asdict(config))
    assert again == config


def test_a_discount_without_a_repeat_is_that_of_a_step():
    for repeat in (1, 2, 8):
        values = {"env.action_repeat": repeat, "world_model.discount_factor": 0.97}
        model = presets.resolve(load_program(), ["dmc_proprio"], values).world_model
        assert model.discount_factor == 0.97
        after = presets.resolve(load_program(), ["quickstart", "dmc_proprio"], values).world_model
        assert after.discount_factor == 0.97
