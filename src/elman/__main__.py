"""`python -m elman` and the `elman` command."""

from __future__ import annotations

import sys

from elman.cli import run

__all__ = ["main"]


def main() -> None:
    """Run the command of this process's arguments and end the process with its exit code."""
    code = run(sys.argv[1:])
    parallel = sys.modules.get("elman.training.parallel")
    if parallel is not None:
        parallel.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
