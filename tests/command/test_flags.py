"""The command line of a configuration: flags and help."""

from __future__ import annotations

import dataclasses

import pytest

from common import config as configs
from common.command import flags
from common.errors import UserError
from tests.nested import Inner, Outer


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
        ("--first 3", "--first is a group of options, such as --first.size; --help lists it"),
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
    assert flags.find_option("b.c", paths) == "a.b.c"
    assert flags.find_option("f", paths) == "a.b.f"
    assert flags.find_option("a.d.c", paths) == "a.d.c"
    assert flags.find_option("c", [*paths, "c"]) == "c"  # A whole name goes before endings.
    with pytest.raises(UserError, match="ambiguous"):
        flags.find_option("c", paths)


def test_groups_that_came_later_leave_short_names_to_others():
    paths = ["behavior.horizon", "planner.horizon", "tdmpc2.horizon", "planner.top"]
    assert flags.find_option("horizon", paths) == "behavior.horizon"
    assert flags.find_option("horizon", paths[1:]) == "planner.horizon"
    assert flags.find_option("planner.horizon", paths) == "planner.horizon"
    assert flags.find_option("top", paths) == "planner.top"


def test_help_shows_every_option_with_default_and_sentence():
    text = flags.help_text(Outer(), 80)
    for option in configs.options(Outer()):
        assert f"--{option.path} " in text
    assert "How large it is, told on two lines. [default: 2]" in text
    assert "one of fast, slow; default: fast" in text
    assert "[default: false]" in text and "[default: 0.0,1.0]" in text
    assert max(map(len, text.splitlines())) <= 80


@dataclasses.dataclass(frozen=True)
class Child(Inner):
    """A part of a part.

    Attributes:
        rate: How fast this one is.
        extra: What it has besides.
    """

    rate: float = 2.0
    extra: tuple[str, ...] = ()


class Silent(Child):
    pass


def test_what_a_base_says_of_its_options_is_said_of_those_that_extend_it():
    expected = {
        "size": "How large it is, told on two lines.",
        "rate": "How fast this one is.",
        "extra": "What it has besides.",
    }
    assert flags.attribute_docs(Child) == expected
    assert list(flags.attribute_docs(Child)) == list(expected)
    assert flags.attribute_docs(Silent) == expected
    text = flags.help_text(Child(), 80)
    assert "How large it is, told on two lines. [default: 2]" in text
    assert "How fast this one is. [default: 2.0]" in text
    assert text.startswith("general: A part of a part.")


def test_an_option_of_a_command_takes_several_words_where_it_says_so():
    words = ["--logdir", "a", "b", "--out", "x", "--logdir=c"]
    parsed = flags.parse_flags(words, None, ("logdir", "out"), lists=("logdir",))
    assert parsed.lists == {"logdir": ("a", "b", "c")} and parsed.extra == {"out": "x"}
    with pytest.raises(UserError, match="unexpected 'b'"):
        flags.parse_flags(words, None, ("logdir", "out"))
    with pytest.raises(UserError, match="--logdir needs a value"):
        flags.parse_flags(["--logdir"], None, ("logdir",), lists=("logdir",))
