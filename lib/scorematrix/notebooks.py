"""Executing the workspace's notebooks by papermill, with its known traps closed."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
KERNEL = "python3"


class NotebookFailed(RuntimeError):
    """A cell raised, the kernel died, or a cell outlasted its limit; the text says which."""


def execute_notebook(name: str, output: Path, parameters: dict[str, Any], timeout_seconds: float | None = None) -> None:
    """Run a notebook of the workspace in a fresh kernel; the executed copy appears at `output` whole.

    Raises:
        ValueError: for an unknown notebook or parameter.
        NotebookFailed: where it did not run to its end; the copy with the error is kept all the same.
    """
    import nbclient.exceptions
    import papermill

    from scorematrix.kernels import PrivateKernelManager

    source = find_notebook(name)
    check_parameters(source, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    try:
        with _quiet():
            papermill.execute_notebook(
                str(source),
                str(draft),
                parameters=parameters,
                kernel_name=KERNEL,
                kernel_manager_class=PrivateKernelManager,
                progress_bar=False,
                log_output=False,
                autosave_cell_every=0,
                # What a notebook makes is on disk when its last cell ends; a framework's orderly exit takes seconds.
                shutdown_kernel="immediate",
                execution_timeout=timeout_seconds,
                cwd=str(FOLDER),
            )
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(f"{name}: cell {error.exec_count} raised {error.ename}: {error.evalue}") from None
    except nbclient.exceptions.DeadKernelError:
        raise NotebookFailed(f"{name}: the kernel died (killed, or out of memory)") from None
    except nbclient.exceptions.CellTimeoutError:
        raise NotebookFailed(f"{name}: a cell took longer than {timeout_seconds:g} s") from None
    except RuntimeError as error:  # jupyter_client's only word for a kernel that died or was silent at its start
        raise NotebookFailed(f"{name}: no kernel: {error}") from None
    finally:
        if draft.exists():
            os.replace(draft, output)


def find_notebook(name: str) -> Path:
    """The path of a committed notebook.

    Raises:
        ValueError: where the folder notebooks/ is not beside the library.
    """
    path = FOLDER / f"{name}.ipynb"
    if not path.is_file():
        raise ValueError(
            f"notebook {name!r} is not in {FOLDER}; install scorematrix in editable mode from a clone (`make setup`)"
        )
    return path


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuse what papermill would let pass: a parameter that the notebook does not have, a missing parameters cell.

    Raises:
        ValueError: naming the notebook and the parameter.
    """
    import papermill

    with _quiet():
        known = papermill.inspect_notebook(str(notebook))
    if not known:
        raise ValueError(f"{notebook.name} has no cell tagged `parameters`; papermill's values would be overwritten")
    if unknown := sorted(parameters.keys() - known.keys()):
        raise ValueError(f"{notebook.name} has no parameter {unknown[0]!r}; it has {', '.join(known)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Papermill logs every step and warns of its own dependencies; errors still come as exceptions."""
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
