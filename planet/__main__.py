"""The ``planet`` command; ``python -m planet`` is the same."""

from __future__ import annotations

import sys

from planet.program import main

if __name__ == "__main__":
    sys.exit(main())
