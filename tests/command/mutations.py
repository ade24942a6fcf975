"""Random changes to presets and to command lines, and what became of them.

``python -m tests.command.mutations 10000 FILE`` writes the figures of so many of each.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import pathlib
import random
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from common.command import commands, presets
from common.command import line as cli
from common.config import options
from common.errors import LONGEST, UserError
from common.run import folder
from common.run.program import Program
from common.run.versions import describe
from dreamer.config import Config as DreamerConfig
from planet.config import Config as PlanetConfig

PROGRAMS = (
    Program("dreamer", DreamerConfig(), None),
    Program("planet", PlanetConfig(), None, acting="planner"),
)
PIECES = (
    "", " ", "\n", "\t", ":", ": ", "- ", "#", ",", ".", "..", "{", "}", "[", "]", "'", '"', "=",
    "&a ", "*a", "<<: *a", "? ", "|", ">", "%", "@", "~", "---", "...", "null", "true", "no", "nan",
    "!!python/object:os.system", "!!set", "!!binary", "!!timestamp", "2001-99-99", "0o17", "1_000",
    "-1", "0", ".inf", "1e400", "9" * 400, "0x" + "f" * 4000, "a" * 3000, "\u2028", "\x00", "\x7f",
    "\ufeff", "\udcff", "é", "includes", "includes: [debug]", "agents", "agents: {dreamer: {}}",
    "task: a:b", "env", "env.kwargs: {a: 1}", "run", "seed", "world_model.rssm.deter", "--",
    "--help", "--configs", "--logdir", "--seed=", "--env.kwargs",
)  # fmt: skip
"""What is put in: what YAML, numbers and options are made of."""

LINES = (
    "train --configs dmc_vision --task dmc_walker_walk --logdir runs/walker --seed 3",
    "train --configs atari size_m --task atari_pong --rssm.deter 400 --run.frames 1e6",
    "train --configs=planet --env.kwargs '{a: [1, 2]}' --env.kwargs.b 3 --task=gym_CartPole-v1",
    "eval --logdir runs/walker --episodes 10 --video walker.mp4 --task a:b",
    "report --logdir runs/walker",
    "check-env --task gym_CartPole-v1 --amount 2",
    "doctor",
)


def mutate(text: str, rng: random.Random) -> str:
    """Changes a text in one to four places."""
    for _ in range(rng.randint(1, 4)):
        begin = rng.randint(0, len(text))
        end = min(begin + rng.choice((0, 0, 1, 1, 3, 20)), len(text))
        kind = rng.randrange(4)
        new = rng.choice(PIECES)
        if kind == 1:
            new = chr(rng.choice((rng.randrange(128), rng.randrange(0xD800))))
        elif kind == 2:  # Another place of the same text.
            start = rng.randint(0, len(text))
            new = text[start : start + rng.randint(1, 30)]
        elif kind == 3:
            new = rng.choice("[{(- ") * rng.choice((2, 40, 400))
        text = text[:begin] + new + text[end:]
    return text


def preset_outcome(text: str, path: pathlib.Path, program: Program) -> str:
    """What an agent makes of a preset: "accepted" or "refused"; raises what is neither."""
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        config = presets.resolve(program, [str(path)])
    except UserError as error:
        return _one_line(error)
    folder.write(path.parent / "run", program.name, config)
    assert folder.read(path.parent / "run", program.name, program.default_config) == config
    return "accepted"


def _one_line(error: UserError) -> str:
    assert str(error).strip() and "\n" not in str(error), error
    assert len(str(error)) <= LONGEST, len(str(error))
    return "refused"


def line_outcome(words: list[str], program: Program) -> str:
    """What a command line comes to before its work begins."""
    reached: list[Any] = []

    def do(load_program: Any, parsed: Any) -> int:
        if "configs" in parsed._fields and load_program() is program:
            reached.append(presets.resolve(program, parsed.configs, parsed.values))
        return 0

    table = {name: one._replace(run=do) for name, one in commands.COMMANDS.items()}
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(cli, "COMMANDS", table),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.main(program.name, lambda: program, words)
    said = err.getvalue()
    if code == 2 and not out.getvalue().startswith("usage"):
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return "refused"
    assert code in (0, 2) and not said, (code, said)
    return "accepted"


def preset_mutations(amount: int, seed: int = 0) -> Iterator[Callable[[], str]]:
    """Every one gives the outcome of another change to a preset of the package."""
    rng = random.Random(seed)
    files = sorted(presets.FOLDER.glob("*.yaml"))
    with tempfile.TemporaryDirectory() as place:
        for _ in range(amount):
            text = mutate(rng.choice(files).read_text(), rng)
            program = rng.choice(PROGRAMS)
            yield lambda text=text, program=program: preset_outcome(
                text, pathlib.Path(place) / "preset.yaml", program
            )


def line_mutations(amount: int, seed: int = 0) -> Iterator[Callable[[], str]]:
    """Every one gives the outcome of another change to a command line."""
    rng, paths = random.Random(seed), [option.path for option in options(PlanetConfig())]
    for _ in range(amount):
        words = shlex.split(rng.choice(LINES))
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.randrange(len(words) + 1)
            if place == len(words) or rng.random() < 0.4:
                value = rng.choice((*PIECES, "0", "1", "4", "0.5", "true", "none"))
                words[place:place] = [f"--{rng.choice(paths)}", value]
            elif rng.random() < 0.3:
                words[place : place + 1] = []
            else:
                words[place] = mutate(words[place], rng)
        program = rng.choice(PROGRAMS)
        yield lambda words=words, program=program: line_outcome(words, program)


def count(mutations: Iterator[Callable[[], str]]) -> dict[str, int]:
    """Counts outcomes, and those that raised anything but the one line of a user's mistake."""
    found = collections.Counter({"accepted": 0, "refused": 0, "tracebacks": 0})
    for outcome in mutations:
        try:
            found[outcome()] += 1
        except Exception as error:
            found["tracebacks"] += 1
            print(f"{type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
    return dict(found)


def main() -> None:
    """Writes the figures."""
    amount, path = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    record = {
        "command": f"python -m tests.command.mutations {amount} {path}",
        "presets": count(preset_mutations(amount)),
        "command_lines": count(line_mutations(amount)),
        "versions": describe().splitlines(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
