"""The command `jobqueue`. It needs the extra `cli`; the library doesn't."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from jobqueue import cli  # noqa: PLC0415 - a missing package is reported in a sentence
    except ModuleNotFoundError as missing:
        if missing.name not in {"rich", "typer"}:
            raise
        sys.stderr.write(
            f"jobqueue: the command line needs {missing.name}; "
            "install it with: pip install 'jobqueue[cli]'\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
