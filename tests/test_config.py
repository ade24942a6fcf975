"""Options by name: types, YAML, presets, flags, help."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

import hypothesis
import hypothesis.strategies as st
import pytest

import common
from common import config as configs
from common.command import flags, presets
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inner:
    """A part.

    Attributes:
        size: How large it is,
            told on two lines.
        rate: How fast.
    """

    size: int = 2
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    """The whole.

    Attributes:
        first: One part.
        second: Another.
        name: What it is called.
        flag: Whether.
        mode: Which.
        limits: Between what.
        where: Perhaps somewhere.
        kwargs: Whatever else.
    """

    first: Inner = Inner()
    second: Inner = Inner(size=3)
    name: str = "x"
    flag: bool = False
    mode: Literal["fast", "slow"] = "fast"
    limits: tuple[float, ...] = (0.0, 1.0)
    where: str | None = None
    kwargs: dict = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    "values, path, expected",
    [
        ({"first": {"size": 7}}, "first.size", 7),
        ({"first.size": "7"}, "first.size", 7),
        ({"first.size": "1e6"}, "first.size", 1_000_000),
        ({"first.size": 2e6}, "first.size", 2_000_000),
        ({"first.size": str(2**62 + 1)}, "first.size", 2**62 + 1),
        ({"first.rate": 3}, "first.rate", 3.0),
        ({"first.rate": "-1e-5"}, "first.rate", -1e-5),
        ({"flag": "true"}, "flag", True),
        ({"flag": "False"}, "flag", False),
        ({"mode": "slow"}, "mode", "slow"),
        ({"limits": "1, 2,3"}, "limits", (1.0, 2.0, 3.0)),
        ({"limits": [4]}, "limits", (4.0,)),
        ({"where": "none"}, "where", None),
        ({"where": "here"}, "where", "here"),
        ({"kwargs.size": "3"}, "kwargs", {"size": "3"}),
        ({"kwargs": "{size: [1, a]}"}, "kwargs", {"size": [1, "a"]}),
    ],
)
def test_update_converts(values, path, expected):
    config = configs.update(Outer(), values)
    found = {option.path: option.value for option in configs.options(config)}
    assert found[path] == expected
    assert type(found[path]) is type(expected)
    assert {change.path for change in configs.difference(Outer(), config)} <= {path}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"frist.size": 1}, "unknown option 'frist.size'; did you mean 'first"),
        ({"first": {"sise": 1}}, "unknown option 'first.sise'; did you mean 'first.size'?"),
        ({"first": 1}, "first is a group of options; set one of them: first.size, first.rate"),
        ({"name.size": 1}, "unknown option 'name.size': name has no parts"),
        ({"first.size": 1.5}, "first.size must be an integer, not 1.5"),
        ({"first.size": "nan"}, "first.size must be an integer, not 'nan'"),
        ({"first.size": "inf"}, "first.size must be an integer, not 'inf'"),
        ({"first.size": True}, "first.size must be an integer, not True"),
        ({"first.rate": "fast"}, "first.rate must be a number, not 'fast'"),
        ({"first.rate": None}, "first.rate must be a number, not None"),
        ({"flag": 1}, "flag must be true or false, not 1"),
        ({"flag": "yes"}, "flag must be true or false, not 'yes'"),
        ({"name": 3}, "name must be a string, not 3"),
        ({"mode": "fats"}, "mode cannot be 'fats'; did you mean 'fast'?"),
        ({"limits": "1,b"}, "limits must be a comma list, each a number, not '1,b'"),
        ({"kwargs": "3"}, "kwargs must be a mapping"),
    ],
)
def test_update_refuses(values, message):
    with pytest.raises(UserError) as caught:
        configs.update(Outer(), values)
    assert message in str(caught.value)


_TRICKY = st.sampled_from(["true", "1e-4", "null", "~", "no", "0x1f", "- a", "a: b"])
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)


@hypothesis.given(
    size=st.integers(-(2**62), 2**62),
    rate=st.floats(allow_nan=False),
    name=st.one_of(_TEXT, _TRICKY),
    where=st.one_of(st.none(), st.just("here")),
    limits=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    kwargs=st.dictionaries(
        _TEXT.filter(bool), st.one_of(_TEXT, _TRICKY, st.booleans(), st.integers())
    ),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_yaml_reads_back_exactly(tmp_path_factory, size, rate, name, where, limits, kwargs):
    inner = Inner(size=size, rate=rate)
    config = Outer(first=inner, name=name, where=where, limits=tuple(limits), kwargs=kwargs)
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(configs.to_yaml(config))
    assert configs.from_yaml(Outer(), path) == config


def test_yaml_is_version_1_2(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: no\nwhere: off\nfirst: {rate: 1e-5}\n")
    config = configs.from_yaml(Outer(), path)
    assert (config.name, config.where, config.first.rate) == ("no", "off", 1e-5)


@pytest.mark.parametrize(
    "content, message",
    [
        ("first: {size: [", "is not valid YAML"),
        ("- a\n", "must hold a mapping of options, not list"),
        ("name: a\nname: b\n", "is not valid YAML"),
        ("nome: a\n", "unknown option 'nome'; did you mean 'name'?"),
    ],
)
def test_yaml_refuses(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        configs.from_yaml(Outer(), path)
    with pytest.raises(UserError, match="cannot read"):
        configs.from_yaml(Outer(), tmp_path / "missing.yaml")


def test_difference_names_both_values():
    after = configs.update(Outer(), {"second.size": 4, "flag": True})
    assert list(map(str, configs.difference(Outer(), after))) == [
        "second.size (3, now 4)",
        "flag (False, now True)",
    ]
    assert configs.difference(after, after) == []


def test_flags_take_a_command_line_apart():
    argv = "--configs a b.yaml --first.size -3 --name=--x --mode slow --logdir here --kwargs.n 1"
    parsed = flags.parse_flags([*argv.split(), "--configs=c"], Outer(), ("logdir",))
    assert parsed.configs == ("a", "b.yaml", "c")
    assert parsed.extra == {"logdir": "here"}
    assert parsed.values == {
        "first.size": "-3",
        "name": "--x",
        "mode": "slow",
        "kwargs.n": 1,
    }


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--size 3", "option --size is ambiguous; write one of: --first.size, --second.size"),
        ("--first.sice 3", "unknown option --first.sice; did you mean '--first.size'?"),
        ("--name", "--name needs a value"),
        ("--name --flag true", "--name needs a value"),
        ("name 3", "unexpected 'name'; options are written --name value"),
        ("--flag true false", "unexpected 'false'"),
        ("--logdri x", "unknown option --logdri; did you mean '--logdir'?"),
    ],
)
def test_flags_refuse(argv, message):
    with pytest.raises(UserError) as caught:
        flags.parse_flags(argv.split(), Outer(), ("logdir",))
    assert message in str(caught.value)


def test_shortest_ending_that_is_unique_names_an_option():
    paths = ["a.b.c", "a.d.c", "c.e", "a.b.f"]
    assert flags.resolve("b.c", paths) == "a.b.c"
    assert flags.resolve("f", paths) == "a.b.f"
    assert flags.resolve("a.d.c", paths) == "a.d.c"
    assert flags.resolve("c", [*paths, "c"]) == "c"  # A whole name goes before endings.
    with pytest.raises(UserError, match="ambiguous"):
        flags.resolve("c", paths)


def test_help_shows_every_option_with_default_and_sentence():
    text = flags.help_text(Outer(), 80)
    for option in configs.options(Outer()):
        assert f"--{option.path} " in text
    assert "How large it is, told on two lines. [default: 2]" in text
    assert "one of fast, slow; default: fast" in text
    assert "[default: false]" in text and "[default: 0.0,1.0]" in text
    assert max(map(len, text.splitlines())) <= 80


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
        self.write("a", "x: 1\nagents: {dreamer: {x: 2}, common: {z: 3}}\n")
        assert presets.load_presets(["a"], "dreamer") == {"x": 2}
        assert presets.load_presets(["a"], "common") == {"x": 1, "z": 3}

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

    @pytest.mark.parametrize(
        "name, message",
        [
            ("alfa", "unknown preset 'alfa'; did you mean 'alpha'?"),
            ("missing.yaml", "cannot read missing.yaml"),
            ("circle", "preset 'circle' includes itself: circle -> back -> circle"),
            ("agent", "preset 'agent' has values for the unknown agent 'dreemer'"),
        ],
    )
    def test_refuses(self, name, message):
        self.write("alpha", "x: 1\n")
        self.write("circle", "includes: back\n")
        self.write("back", "includes: circle\n")
        self.write("agent", "agents: {dreemer: {x: 1}}\n")
        with pytest.raises(UserError) as caught:
            presets.load_presets([name], "dreamer")
        assert message in str(caught.value)


def test_presets_lie_beside_the_package():
    assert presets.FOLDER == pathlib.Path(common.__file__).parent.parent / "configs"
    expected = {"quickstart", "debug", "dmc_vision", "dmc_proprio", "atari", "atari_paper"}
    expected |= {"atari100k", "dreamer_v1", "crafter", "size_xs", "size_s", "size_m", "size_l"}
    assert expected | {"size_xl"} <= set(presets.preset_names())
    assert all(presets.preset_descriptions().values())
