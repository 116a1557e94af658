"""`python -m elman` and the `elman` command."""

from __future__ import annotations

import sys

from elman.cli import run

__all__ = ["main"]


def main() -> None:
    """Run the command of this process's arguments and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
