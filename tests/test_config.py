"""Options by name: types, YAML, what differs."""

from __future__ import annotations

import os

import hypothesis
import hypothesis.strategies as st
import pytest

from common import config as configs
from common.errors import UserError
from tests.nested import Inner, Outer


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


def test_a_mapping_is_merged_into_an_option_that_is_one():
    before = Outer(kwargs={"a": 1, "b": {"c": 2}})
    changed = configs.update(before, {"kwargs": {"b": 3}, "kwargs.d": 4})
    assert changed.kwargs == {"a": 1, "b": 3, "d": 4}
    assert before.kwargs == {"a": 1, "b": {"c": 2}}
    later = configs.update(before, {"kwargs.a": 5}, {"kwargs": {"e": 6}}, {"kwargs.e": 7})
    assert later.kwargs == {"a": 5, "b": {"c": 2}, "e": 7}
    assert configs.update(before, {"kwargs": "{e: 6}"}).kwargs == {"e": 6}  # Written out whole.


def test_later_values_go_over_earlier_ones_however_they_are_written():
    values = {"first": {"size": 5, "rate": 1}, "second.size": 6}
    changed = configs.update(Outer(), values, {"first.size": 7}, {"second": {"rate": 2}})
    assert (changed.first, changed.second) == (Inner(7, 1.0), Inner(6, 2.0))
    assert configs.update(Outer()) == configs.update(Outer(), {}, {"first": {}}) == Outer()
    with pytest.raises(UserError, match="first.size must be an integer, not 'x'"):
        configs.update(Outer(), {"first.size": "x"}, {"first.size": 7})


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


def test_long_lines_keep_their_spaces(tmp_path):
    config = Outer(name=("a," + " " * 300) * 5 + "b", kwargs={"k": " " * 200 + "x"})
    (tmp_path / "a.yaml").write_text(configs.to_yaml(config))
    assert configs.from_yaml(Outer(), tmp_path / "a.yaml") == config


def swelling(pattern):
    """Fifteen lines, each of which holds the one before nine times."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for n in range(15):
        lines.append(f"a{n + 1}: &a{n + 1} {pattern % ', '.join([f'*a{n}'] * 9)}")
    return "\n".join(lines)


CHAIN = "a0: &a [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1 or ''}]" for n in range(1, 60))
ODD = {
    "list of aliases": (swelling("[%s]"), "1,000,000,000,000 values"),
    "merged aliases": (swelling("{<<: [%s]}"), "1,000,000,000,000 values"),
    "chain": (CHAIN, "levels deep"),
    "circle": ("a: &a [*a]", "an alias stands inside of what it stands for"),
    "merged circle": ("a: &a {<<: *a}", "inside of what it stands for"),
    "deep": ("[" * 400, "is not valid YAML"),
    "date": ("name: 2001-99-99", "a value cannot be read (month must be in 1..12)"),
    "tag": ("name: !!int ''", "a value cannot be read"),
    "object": ("name: !!python/object/apply:os.system [id]", "is not valid YAML"),
    "documents": ("---\na: 1\n---\nb: 1", "is not valid YAML"),
    "null byte": ("a: \0", "is not valid YAML"),
    "list": ("- 1", "must hold a mapping of options, not list"),
    "digits": ("name: " + "9" * 5000, "a value cannot be read"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_file_of_options_holds_is_one_line(name, tmp_path):
    content, message = ODD[name]
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        configs.read_mapping(tmp_path / "a.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_aliases_in_bounds_are_written_out(tmp_path):
    content = "first: &one {size: 7}\nsecond: {<<: *one, rate: 2}\n"
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + content.encode())
    config = configs.from_yaml(Outer(), tmp_path / "a.yaml")
    assert (config.first, config.second) == (Inner(7), Inner(7, 2.0))


def test_what_is_no_file_of_options_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe.yaml", "folder.yaml"):
        with pytest.raises(UserError, match="it is no file"):
            configs.read_mapping(tmp_path / name)
    (tmp_path / "large.yaml").write_text("#" * (configs.MOST_BYTES + 1))
    with pytest.raises(UserError, match="large.yaml is larger than 1,048,576 bytes"):
        configs.read_mapping(tmp_path / "large.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(UserError, match="is not valid YAML"):
        configs.read_mapping(tmp_path / "latin.yaml")


LARGE = 2**20_000
"""More digits than Python writes."""


@pytest.mark.parametrize("path", ["first.size", "first.rate", "name", "flag", "mode", "where"])
def test_numbers_of_any_size_are_refused_in_words(path):
    with pytest.raises(UserError, match=f"{path} .* a number of 20,001 bits"):
        configs.update(Outer(), {path: LARGE})
    with pytest.raises(UserError) as caught:
        configs.update(Outer(), {path: ["9" * 10_000]})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "value", [{1: 2}, {"a": {3: 4}}, {"a": LARGE}, {"a": {1, 2}}, {"a": b"x"}, {"a": "\udcff"}]
)
def test_a_mapping_holds_only_what_a_file_can(value):
    for values in ({"kwargs": value}, {"kwargs.a": value}):
        with pytest.raises(UserError, match="kwargs must be a mapping"):
            configs.update(Outer(), values)


def test_text_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"name must be a string, not '\\udcff'"):
        configs.update(Outer(), {"name": "\udcff"})


def test_difference_names_both_values():
    after = configs.update(Outer(), {"second.size": 4, "flag": True})
    assert list(map(str, configs.difference(Outer(), after))) == [
        "second.size (3, now 4)",
        "flag (False, now True)",
    ]
    assert configs.difference(after, after) == []
