"""The ``dreamer`` command; ``python -m dreamer`` is the same."""

from __future__ import annotations

import sys

from dreamer.program import main

if __name__ == "__main__":
    sys.exit(main())
