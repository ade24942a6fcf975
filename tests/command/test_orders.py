"""Options that are valid only together: in any order, from flags, presets and files."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from common import config as configs
from common.command import flags, presets
from common.errors import UserError
from common.run import folder
from common.run.program import Program
from dreamer.config import Config as DreamerConfig
from planet.config import Config as PlanetConfig

PROGRAMS = {
    "dreamer": Program("dreamer", DreamerConfig(), None),
    "planet": Program("planet", PlanetConfig(), None),
}
OLD = pathlib.Path(__file__).resolve().parents[1] / "recorded" / "0.1"
"""Run folders that version 0.1 wrote."""


def parsed(program: Program, pairs: list[tuple[str, str]]) -> Any:
    """The configuration that a command line gives."""
    argv = [f"--{name}={value}" for name, value in pairs]
    given = flags.parse_flags(argv, program.default_config)
    return presets.resolve(program, given.configs, given.values)


def built(config: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """The same by the constructors alone, from the inside out."""
    options = {}
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            options[field.name] = built(value, values, f"{path}.")
        else:
            options[field.name] = values.get(path, value)
    return type(config)(**options)


def check_reads_back(program: Program, config: Any, path: pathlib.Path) -> None:
    """What is written is read back, by the run's folder too."""
    folder.write(path, program.name, config)
    assert folder.read(path, program.name, program.default_config) == config
    other = path / "alone.yaml"
    other.write_text(configs.to_yaml(config))
    assert configs.from_yaml(program.default_config, other) == config


TOGETHER = [
    ("dreamer", "transformer.width=90 transformer.heads=9 transformer.kv_heads=3"),
    ("dreamer", "transformer.width=48 transformer.heads=3 dynamics=transformer"),
    ("planet", "transformer.width=7 transformer.heads=7 transformer.kv_heads=7"),
    ("planet", "tdm.width=90 tdm.heads=9 tdm.kv_heads=3"),
    ("dreamer", "transformer.width=90 transformer.heads=9 transformer.kv_heads=9"),
    ("planet", "tdm.width=90 tdm.heads=9"),
    ("planet", "tokeniser=uniform tdm.low=20,20 tdm.high=29,29"),
    ("planet", "planner.candidates=50 planner.top=5"),
    ("planet", "planner.candidates=50 planner.top=50"),
    ("planet", "planner.candidates=3000 planner.top=2000"),
    ("planet", "planner.candidates=5 planner.method=shooting"),
    ("planet", "tokeniser=uniform tdm.low=5 tdm.high=9"),
    ("planet", "tokeniser=uniform tdm.low=-20,-20 tdm.high=-9,-9"),
]


@pytest.mark.parametrize(("name", "words"), TOGETHER)
def test_every_order_is_taken_and_read_back(name, words, tmp_path):
    program = PROGRAMS[name]
    pairs = [tuple(word.split("=")) for word in words.split()]
    first, *others = (parsed(program, order) for order in itertools.permutations(pairs))
    assert first != program.default_config
    assert all(other == first for other in others)
    check_reads_back(program, first, tmp_path)


@pytest.mark.parametrize(
    ("name", "group"),
    [("dreamer", "world_model.transformer"), ("planet", "world_model.transformer"),
     ("planet", "tdm")],
)  # fmt: skip
def test_every_valid_size_is_taken_and_read_back(name, group):
    program = PROGRAMS[name]
    sizes = itertools.product((16, 48, 90, 256), (1, 2, 3, 8, 12), (1, 2, 3, 4, 6))
    valid = [one for one in sizes if one[0] % one[1] == one[1] % one[2] == 0]
    for values in valid:
        paths = [f"{group}.{option}" for option in ("width", "heads", "kv_heads")]
        pairs = list(zip(paths, map(str, values), strict=True))
        config = parsed(program, pairs)
        assert parsed(program, pairs[::-1]) == config
        assert configs.update(program.default_config, configs.to_dict(config)) == config


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("dreamer", "transformer.width=90", "world_model.transformer.width is 90; expected a "
         "multiple of world_model.transformer.heads, which is 4"),
        ("planet", "tdm.heads=9", "tdm.width is 128; expected a multiple of tdm.heads, which is 9"),
        ("planet", "tdm.kv_heads=3", "tdm.heads is 4; expected a multiple of tdm.kv_heads, which "
         "is 3"),
        ("planet", "candidates=50", "planner.top is 100; expected at most planner.candidates, "
         "which is 50"),
        ("planet", "tokeniser=uniform tdm.low=2", "tdm.low is 2.0 and tdm.high 1.0; expected "
         "low < high"),
        ("planet", "tokeniser=uniform tdm.low=0,0", "tdm.low has 2 entries and tdm.high 1; "
         "expected as many"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named_by_full_paths(name, words, message):
    pairs = [tuple(word.split("=")) for word in words.split()]
    with pytest.raises(UserError) as caught:
        parsed(PROGRAMS[name], pairs)
    assert str(caught.value) == message


def test_a_preset_and_a_flag_may_be_valid_only_together(tmp_path):
    preset = tmp_path / "wide.yaml"
    preset.write_text("world_model.transformer: {width: 90}\n")
    config = presets.resolve(
        PROGRAMS["dreamer"], [str(preset)], {"world_model.transformer.heads": 9}
    )
    assert (config.world_model.transformer.width, config.world_model.transformer.heads) == (90, 9)
    with pytest.raises(UserError, match="transformer.width is 90"):
        presets.resolve(PROGRAMS["dreamer"], [str(preset)])


VALUES = {
    bool: st.booleans(),
    int: st.sampled_from([1, 2, 3, 4, 5, 6, 9, 12, 48, 64, 90, 128, 192]),
    float: st.sampled_from([0.0, 1e-4, 0.25, 0.5, 1.0, 3.5]),
    tuple[float, ...]: st.lists(st.sampled_from([-5.0, 0.5, 7.0]), min_size=1, max_size=2).map(
        tuple
    ),
}


@st.composite
def changes(draw: st.DrawFn, program: Program) -> dict[str, Any]:
    """Two or three options, most of them of one group, and values of the right types."""
    known = [
        option
        for option in configs.options(program.default_config)
        if option.type in VALUES or typing.get_origin(option.type) is typing.Literal
    ]
    group = draw(st.sampled_from(known)).path.rpartition(".")[0]
    near = [option for option in known if option.path.rpartition(".")[0] == group]
    pool = draw(st.sampled_from([near, near, known]))
    chosen = draw(
        st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique_by=lambda o: o.path)
    )
    literal = lambda kind: st.sampled_from(typing.get_args(kind))  # noqa: E731
    return {o.path: draw(VALUES[o.type] if o.type in VALUES else literal(o.type)) for o in chosen}


@pytest.mark.parametrize("name", PROGRAMS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_no_order_of_flags_matters(name, tmp_path_factory, data):
    """Whatever the constructors take is taken in every order, and nothing else is."""
    program = PROGRAMS[name]
    values = data.draw(changes(program))
    join = lambda value: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)  # noqa: E731
    orders = list(itertools.permutations((path, join(value)) for path, value in values.items()))
    try:
        expected = built(program.default_config, values).settled()
    except UserError:
        for order in orders:
            with pytest.raises(UserError):
                parsed(program, order)
        return
    assert all(parsed(program, order) == expected for order in orders)
    check_reads_back(program, expected, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    "path", sorted(OLD.glob("*/config.yaml")), ids=lambda path: path.parent.name
)
def test_configurations_of_version_0_1_are_read(path, tmp_path):
    (tmp_path / folder.CONFIG).write_text(path.read_text())
    name = folder.agent_name(tmp_path)
    config = folder.read(tmp_path, name, PROGRAMS[name].default_config)
    written = configs.read_mapping(path)
    del written["agent"]

    def check(old: dict, new: dict) -> None:
        for key, value in old.items():
            check(value, new[key]) if isinstance(value, dict) else None
            assert isinstance(value, dict) or new[key] == value, key

    check(written, configs.to_dict(config))
    assert config != PROGRAMS[name].default_config
