"""Checks of options: where a dataclass is built, and by their full path in a configuration."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import re
import typing
from typing import Annotated, Literal

import numpy as np
import pytest

from benchmarks.jobs.plan import AGENTS
from common import config as configs
from common.checks import (
    AT,
    Count,
    Finite,
    NonNegative,
    OptionError,
    Options,
    Positive,
    Range,
    Seed,
    Share,
    Whole,
    check_choice,
    check_multiple,
    check_range,
    choices,
    refuse,
)
from common.command import flags
from common.dynamics.rssm import RSSMConfig
from common.errors import UserError

PROGRAMS = {
    name: importlib.import_module(f"{name}.program").load_program().default_config
    for name in AGENTS
}


@dataclasses.dataclass(frozen=True)
class Sizes(Options):
    """One of everything."""

    kind: Literal["fast", "slow"] = "fast"
    count: Count = 1
    whole: Whole = 0
    seed: Seed = 0
    finite: Finite = 0.0
    weight: NonNegative = 0.0
    rate: Positive = 1.0
    share: Share = 1.0
    chance: Annotated[float, Range(0, 1, below=True)] = 0.0
    free: int = 0
    tags: tuple[Literal["red", "blue"], ...] = ()
    flag: bool = False
    name: str = ""
    extras: dict = dataclasses.field(default_factory=dict)
    levels: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Coupled(Options):
    """Options that are valid only together."""

    width: Count = 4
    heads: Count = 2
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_multiple(self, "width", "heads")
        if self.low >= self.high:
            refuse(self, f"{AT}low is {self.low} and {AT}high {self.high}; expected low < high")


@dataclasses.dataclass(frozen=True)
class Outer(Options):
    """A dataclass of dataclasses."""

    left: Coupled = Coupled()
    right: Coupled = Coupled(width=6, heads=3)
    count: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count > self.left.width:
            refuse(self, f"{AT}count is {self.count}; expected at most {AT}left.width")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "fats"}, "Sizes.kind cannot be 'fats'; did you mean 'fast'?"),
        ({"kind": 3}, "Sizes.kind cannot be 3; choose from: fast, slow"),
        ({"count": 0}, "Sizes.count is 0; expected at least 1"),
        ({"whole": -1}, "Sizes.whole is -1; expected at least 0"),
        ({"seed": 2**31}, "Sizes.seed is 2147483648; expected 0 to 2147483647"),
        ({"finite": math.nan}, "Sizes.finite is nan; expected a finite number"),
        ({"finite": -math.inf}, "Sizes.finite is -inf; expected a finite number"),
        ({"weight": math.inf}, "Sizes.weight is inf; expected at least 0 and finite"),
        ({"rate": 0.0}, "Sizes.rate is 0.0; expected a number above 0"),
        ({"share": 1.5}, "Sizes.share is 1.5; expected 0 to 1"),
        ({"chance": 1.0}, "Sizes.chance is 1.0; expected at least 0 and below 1"),
        ({"tags": ("blue", "rad")}, "Sizes.tags cannot be 'rad'; did you mean 'red'?"),
        ({"kind": None}, "Sizes.kind cannot be None; choose from: fast, slow"),
        ({"kind": ("fast",)}, "Sizes.kind cannot be ('fast',); did you mean 'fast'?"),
        ({"count": "3"}, "Sizes.count is '3'; expected at least 1"),
        ({"count": None, "share": 2.0}, "Sizes.count is None; expected at least 1"),
        ({"count": 2.5}, "Sizes.count is 2.5; expected an integer"),
        ({"count": 2.0}, "Sizes.count is 2.0; expected an integer"),
        ({"count": True}, "Sizes.count is True; expected an integer"),
        ({"free": 0.5}, "Sizes.free is 0.5; expected an integer"),
        ({"share": True}, "Sizes.share is True; expected a number"),
        ({"flag": 1}, "Sizes.flag is 1; expected True or False"),
        ({"flag": "false"}, "Sizes.flag is 'false'; expected True or False"),
        ({"name": None}, "Sizes.name is None; expected a string"),
        ({"extras": [1]}, "Sizes.extras is [1]; expected a dict"),
        ({"levels": [1.0]}, "Sizes.levels is [1.0]; expected a tuple, each entry a number"),
        ({"levels": ("1",)}, "Sizes.levels is ('1',); expected a tuple, each entry a number"),
        ({"tags": "red"}, "Sizes.tags is 'red'; expected a tuple of 'red', 'blue'"),
        ({"tags": 3}, "Sizes.tags is 3; expected a tuple of 'red', 'blue'"),
    ],
)
def test_a_value_is_refused_where_the_dataclass_is_built(options, message):
    with pytest.raises(OptionError) as caught:
        Sizes(**options)
    assert str(caught.value) == message
    with pytest.raises(OptionError):
        dataclasses.replace(Sizes(), **options)


def test_the_ends_of_a_range_belong_to_it():
    Sizes(
        count=1,
        whole=0,
        seed=2**31 - 1,
        finite=-1e300,
        share=0.0,
        chance=0.0,
        free=-5,
        tags=("red",) * 2,
    )
    Sizes(count=np.int64(2), share=np.float32(1.0), weight=0, rate=5e-324, kind="slow")
    Sizes(flag=True, name=np.str_("x"), extras={"a": 1}, levels=(1, np.float64(2.5)))


def test_the_help_lists_choices():
    text = flags.help_text(Sizes(), 100)
    assert "[one of fast, slow; default: fast]" in text
    assert "[each one of red, blue; default: empty]" in text


def test_what_is_wrong_first_is_said_first():
    with pytest.raises(OptionError, match="Coupled.width is 0; expected at least 1"):
        Coupled(width=0, heads=3)
    with pytest.raises(OptionError, match="width is 4; expected a multiple of Coupled.heads, wh"):
        Coupled(heads=3)


def test_an_error_can_be_moved():
    error = OptionError("Coupled.", f"{AT}low is 3 and {AT}high 2")
    assert str(error) == "Coupled.low is 3 and Coupled.high 2"
    assert str(error.moved("a.b.").moved("c.")) == "c.low is 3 and c.high 2"
    assert isinstance(error.moved(""), UserError)


def test_a_group_of_options_is_one():
    with pytest.raises(OptionError, match=r"Outer.left is \{\}; expected a Coupled"):
        Outer(left={})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"left": {"width": 5}}, "left.width is 5; expected a multiple of left.heads, which is 2"),
        ({"right.low": 2}, "right.low is 2 and right.high 1; expected low < high"),
        ({"right.heads": -3}, "right.heads is -3; expected at least 1"),
        ({"count": 5}, "count is 5; expected at most left.width"),
        ({"count": 0, "left.width": 0}, "left.width is 0; expected at least 1"),
    ],
)
def test_update_says_the_full_path(values, message):
    with pytest.raises(OptionError) as caught:
        configs.update(Outer(), values)
    assert str(caught.value) == message


def test_check_range_names_what_is_no_option():
    check_range("--episodes", 1, 1)
    with pytest.raises(UserError, match="--episodes is 0; expected at least 1"):
        check_range("--episodes", 0, 1)
    with pytest.raises(UserError, match="share is nan; expected 0 to 1"):
        check_range("share", math.nan, 0, 1)


def test_check_choice_names_what_is_no_option():
    check_choice("mode", "slow", Literal["fast", "slow"])
    with pytest.raises(UserError, match="mode cannot be 'sloww'; did you mean 'slow'?"):
        check_choice("mode", "sloww", Literal["fast", "slow"])


def _option_classes() -> list[type]:
    """Every dataclass of the package that is part of a configuration."""
    found = {}
    for root in ("common", *AGENTS, "benchmarks.tdm"):
        for module in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                named = isinstance(value, type) and value.__name__.endswith("Config")
                if named and dataclasses.is_dataclass(value):
                    found[f"{value.__module__}.{value.__name__}"] = value
    return [found[name] for name in sorted(found)]


CLASSES = _option_classes()


def test_all_classes_are_found():
    names = {"RSSMConfig", "EnvConfig", "ReplayConfig", "RunConfig", "WorldModelConfig"}
    names |= {"TransformerConfig", "TDMConfig", "PlannerConfig", "OptimizerConfig", "HeadConfig"}
    assert names | {"ActorConfig", "EnsembleConfig"} <= {owner.__name__ for owner in CLASSES}


@pytest.mark.parametrize("owner", CLASSES, ids=lambda owner: f"{owner.__module__}.{owner.__name__}")
def test_every_config_is_documented_frozen_and_checked(owner):
    assert owner.__dataclass_params__.frozen
    assert issubclass(owner, Options)
    fields = [field.name for field in dataclasses.fields(owner)]
    assert list(flags.attribute_docs(owner)) == fields
    assert all(flags.attribute_docs(owner).values())
    for name, kind in typing.get_type_hints(owner, include_extras=True).items():
        if typing.get_origin(kind) is Literal:
            with pytest.raises(OptionError) as caught:
                owner(**{name: "gausian"})
            assert str(caught.value).startswith(f"{owner.__name__}.{name} cannot be 'gausian'")
        assert kind not in (int, float), f"{owner.__name__}.{name} has no range"
        for extra in getattr(kind, "__metadata__", ()):
            with pytest.raises(OptionError, match=rf"^{owner.__name__}\.{name} is -inf; expected"):
                owner(**{name: -math.inf})
            assert isinstance(extra, Range)
    # Of the wrong type, whatever the option is: none takes a set of numbers.
    for name in fields:
        with pytest.raises(
            OptionError, match=rf"^{owner.__name__}\.{name} (is|cannot be) \{{0.5\}}"
        ):
            owner(**{name: {0.5}})
    for name, kind in typing.get_type_hints(owner).items():
        if kind is int:
            with pytest.raises(OptionError, match=rf"\.{name} is 2.5; expected "):
                owner(**{name: 2.5})


def test_the_nearest_choice_is_named():
    with pytest.raises(UserError) as caught:
        RSSMConfig(latent="gausian")
    assert str(caught.value) == "RSSMConfig.latent cannot be 'gausian'; did you mean 'gaussian'?"


OPTIONS = [
    pytest.param(config, option, id=f"{name}-{option.path}")
    for name, config in PROGRAMS.items()
    for option in configs.options(config)
]


@pytest.mark.parametrize(("config", "option"), OPTIONS)
def test_an_impossible_value_is_refused_by_its_full_path(config, option):
    words = choices(option.type)
    if words:
        for wrong in ("gausian", words[0] + "x"):
            with pytest.raises(UserError, match=rf"^{re.escape(option.path)} cannot be '{wrong}'"):
                configs.update(config, {option.path: wrong})
        help_of_it = flags.help_text(config, 10_000)
        line = re.search(rf"--{re.escape(option.path)} .*", help_of_it.replace("\n   ", " "))[0]
        assert f"{', '.join(words)}; default: " in line
    elif option.type in (int, float):
        value = math.nan if option.path == "actor.init_std" else -1e9
        with pytest.raises(UserError, match=rf"^{re.escape(option.path)} is .*; expected"):
            configs.update(config, {option.path: value})
    elif choices(option.type):
        with pytest.raises(UserError, match=rf"^{re.escape(option.path)} must be a comma list"):
            configs.update(config, {option.path: "gausian"})
    else:
        assert option.type in (bool, str, dict, tuple[float, ...], tuple[int, ...])
