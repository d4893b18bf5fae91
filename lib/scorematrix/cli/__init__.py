"""The command line: a few lines per command over the library.

Exit codes: 0 done, skips included; 1 the report could not be made, or a disk failed; 2 bad input; 3 a gate failed;
4 nothing could run."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from scorematrix.cli import accelerators, audits, runs, scorers, serving, targets  # noqa: F401  they register their commands
from scorematrix.cli.app import BAD_INPUT, app


def main() -> None:
    """Run the command line. Bad input becomes one line and exit code 2, a failed notebook one line and code 1."""
    from scorematrix.notebooks import NotebookFailed
    from scorematrix.scoring.own import remember_folder

    remember_folder(Path.cwd())
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.TyperException as error:  # usage: unknown option, missing argument
        error.show()  # pyright: ignore[reportAttributeAccessIssue]  # typer only ever raises its subclass, which has it
        code = BAD_INPUT
    except (ValueError, ModuleNotFoundError) as error:
        print(f"scorematrix: {' '.join(str(error).split())}", file=sys.stderr)
        code = BAD_INPUT
    except OSError as error:  # a full disk, a folder that may not be written to
        where = f": {error.filename}" if error.filename else ""
        print(
            f"scorematrix: {error.strerror or error}{where}; nothing is half-written. Fix this, then run the same "
            "command again to continue",
            file=sys.stderr,
        )
        code = 1
    except NotebookFailed as error:  # of the report; that of a round is a result
        print(f"scorematrix: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("scorematrix: interrupted; the same command continues", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
