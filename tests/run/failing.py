"""A process of a training whose checkpoints fail after the second, where it is the one that writes.

``python -m tests.run.failing KIND train ...``: KIND is "disk" for a full one, or "mistake" for what
nobody expects.
"""

from __future__ import annotations

import sys

from common.command import line as cli
from common.files import WriteError
from common.run import checkpoint
from tests import fake_agent

ERRORS = {"disk": WriteError("disk full"), "mistake": RuntimeError("a mistake of ours")}
WELL = 2


def _fail(kind: str) -> None:
    save, made = checkpoint.save, iter(range(10**6))

    def fail(*args, **more):
        if next(made) == WELL:
            raise ERRORS[kind]
        return save(*args, **more)

    checkpoint.save = fail


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    _fail(kind)
    sys.exit(cli.main("tests.fake_agent", fake_agent.load_program, rest))
