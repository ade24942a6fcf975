"""Presets: their composition, by files of the tests' own."""

from __future__ import annotations

import pathlib

import pytest

import common
from common.command import presets
from common.errors import UserError
from common.run.program import Program
from tests.nested import Inner, Outer


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
        program = Program("dreamer", Outer(flag=True), None)
        flags = {"first.rate": "3", "kwargs.y": 4}
        config = presets.resolve(program, ["a", "b"], flags, {"name": "c"})
        assert config == Outer(first=Inner(5, 3.0), flag=True, kwargs={"x": 1, "y": 4}, name="c")
        assert presets.resolve(program) == program.default_config
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
