"""Random changes to presets and command lines end in a configuration or in one line."""

from __future__ import annotations

import pytest

from common.command import presets
from common.errors import LONGEST, UserError
from tests.command import mutations

FEW = 30


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["preset", "line"])
def test_few(kind):
    made = {"preset": mutations.preset_mutations, "line": mutations.line_mutations}[kind]
    outcomes = [outcome() for outcome in made(FEW, seed=1)]
    assert set(outcomes) == {"accepted", "refused"}


@pytest.mark.parametrize("text", ["includes: {}", "? {}\n: 1", "env: {{kwargs: {}}}", "seed: {}"])
def test_what_is_quoted_may_be_of_any_length(tmp_path, text):
    """What is wrong and what would be right stay, at both ends of the message."""
    (tmp_path / "long.yaml").write_text(text.format("p" + 5000 * "f"))
    with pytest.raises(UserError) as caught:
        presets.resolve(mutations.PROGRAMS[0], [str(tmp_path / "long.yaml")])
    message = str(caught.value)
    assert len(message) <= LONGEST and "pfff" in message
    if text == "includes: {}":
        assert message.startswith("unknown preset 'pfff") and message.endswith("in all)")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["preset", "line"])
def test_many(kind):
    made = {"preset": mutations.preset_mutations, "line": mutations.line_mutations}[kind]
    found = mutations.count(made(10_000, seed=2))
    assert found["tracebacks"] == 0 and min(found["accepted"], found["refused"]) > 100
