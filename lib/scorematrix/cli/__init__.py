"""The command line: a few lines per command over the library.

Exit codes: 0 done, skips included; 1 the report could not be made, or a disk or mirror failed; 2 bad input; 3 a gate
failed; 4 nothing could run."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from scorematrix.cli import accelerators, audits, runs, scorers, targets  # noqa: F401  they register their commands
from scorematrix.cli.app import BAD_INPUT, app
from scorematrix.privacy import printable, without_credentials
from scorematrix.wings import wing

if (_servers := wing("servers")) is not None:
    _servers.register_commands()

INTERRUPTED = 130
ORDER = [
    "run", "report", "score", "preflight", "accelerator", "audit", "load", "serve", "provision", "models", "bundle",
    "validate", "sign",
]  # fmt: skip
"""Commands as `--help` lists them, by how often they are needed."""

app.registered_commands.sort(key=lambda command: ORDER.index(command.callback.__name__) if command.callback else 0)


def main() -> None:
    """Run the command line. Bad input becomes one line and exit code 2, a failed notebook one line and code 1."""
    from scorematrix.notebooks import NotebookFailed
    from scorematrix.scoring.own import remember_folder

    remember_folder(Path.cwd())
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.BadParameter as error:  # an option's value, which the message names
        _print_error(error.format_message().replace("Value error, ", ""))
        code = BAD_INPUT
    except typer.TyperException as error:  # usage: unknown option or command
        error.show()  # pyright: ignore[reportAttributeAccessIssue]  # typer only ever raises its subclass, which has it
        code = BAD_INPUT
    except (ValueError, ModuleNotFoundError) as error:
        _print_error(" ".join(str(error).split()))
        code = BAD_INPUT
    except OSError as error:  # a full disk, a folder that may not be written to
        where = f": {error.filename}" if error.filename else ""
        _print_error(
            f"{error.strerror or error}{where}; nothing is half-written. Fix this, then run the same command again to "
            "continue"
        )
        code = 1
    except NotebookFailed as error:  # of the report; that of a round is a result
        _print_error(str(error))
        code = 1
    if code == INTERRUPTED:  # typer catches KeyboardInterrupt itself
        _print_error("interrupted" + ("; the same command continues" if sys.argv[1:2] == ["run"] else ""))
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(message: str) -> None:
    print(f"scorematrix: {without_credentials(printable(message))}", file=sys.stderr)
