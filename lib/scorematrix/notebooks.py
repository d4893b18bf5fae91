"""Execute the workspace's notebooks with papermill, and avoid its known traps."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorematrix.privacy import redacted

_CLONE, _INSTALLED = Path(__file__).resolve().parents[2] / "notebooks", Path(sys.prefix) / "share/scorematrix/notebooks"
FOLDER = _CLONE if _CLONE.is_dir() else _INSTALLED
"""The notebooks of the clone that this runs from, or those that `pip install` installed."""
KERNEL = "python3"
IDLE_SECONDS = 60
"""How long a kernel may take to become idle after a cell, if the cell has no time limit."""


class NotebookFailed(RuntimeError):
    """A cell raised, the kernel died, or a cell exceeded its time limit; the text says which.

    Attributes:
        raised: name and text of the exception that a cell raised; None if no cell raised.
        died: whether the kernel ended by itself, or did not start.
    """

    def __init__(self, text: str, raised: tuple[str, str] | None = None, died: bool = False) -> None:
        super().__init__(text)
        self.raised, self.died = raised, died


def execute_notebook(name: str, output: Path, parameters: dict[str, Any], timeout_seconds: float | None = None) -> None:
    """Run a notebook of the workspace in a fresh kernel and write the executed copy to `output` atomically.

    Raises:
        ValueError: for an unknown notebook or parameter.
        NotebookFailed: if it did not run to its end. The copy with the error is kept.
        OSError: if the copy cannot be written.
    """
    import nbclient.exceptions
    import papermill

    from scorematrix.notebook_kernels import PREFIX, PrivateKernelManager

    source = find_notebook(name)
    check_parameters(source, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    try:
        with quietly():
            papermill.execute_notebook(
                str(source),
                str(draft),
                parameters=parameters,
                kernel_name=KERNEL,
                kernel_manager_class=PrivateKernelManager,
                progress_bar=False,
                log_output=False,
                autosave_cell_every=0,
                # A notebook's results are on disk when its last cell ends; a framework's orderly exit takes seconds.
                shutdown_kernel="immediate",
                execution_timeout=timeout_seconds,
                # A kernel stopped between its last reply and its idle message has the same limit, not Jupyter's 4 s.
                iopub_timeout=math.ceil(timeout_seconds or IDLE_SECONDS),
                # Not papermill's cwd, which would change the working directory of this process.
                resources={"metadata": {"path": str(FOLDER)}},
            )
    except papermill.PapermillExecutionError as error:
        raised = (error.ename, error.evalue)
        raise NotebookFailed(f"{name}: cell {error.exec_count} raised {': '.join(raised)}", raised) from None
    except nbclient.exceptions.DeadKernelError:
        raise NotebookFailed(f"{name}: the kernel died (killed, or out of memory)", died=True) from None
    except nbclient.exceptions.CellTimeoutError:
        raise NotebookFailed(f"{name}: a cell took longer than {timeout_seconds:g} s") from None
    except RuntimeError as error:  # from jupyter_client: a kernel died or was silent at its start
        raise NotebookFailed(f"{name}: no kernel: {error}", died=True) from None
    except OSError as error:  # the copy could not be written; papermill does not say which file
        # Not from the operating system: a timeout in Jupyter. Or about the kernel's own folder.
        if error.errno is None or PREFIX in str(error.filename):
            raise NotebookFailed(f"{name}: {type(error).__name__}: {error}") from error
        raise OSError(error.errno, error.strerror, error.filename or str(output)) from None
    finally:
        _keep(draft, output)


def papermill_command(name: str, output: Path, parameters: dict[str, Any]) -> list[str]:
    """Return the shell command that executes a notebook as `execute_notebook` does, in any folder.

    Parameters that are None keep their default.
    """
    options = [part for key, value in parameters.items() if value is not None for part in ("-p", key, str(value))]
    return ["papermill", "-k", KERNEL, str(find_notebook(name)), str(output.resolve()), *options]


def _keep(draft: Path, output: Path) -> None:
    """Move the executed copy into place. A copy that a full disk truncated is deleted without a second error."""
    try:
        if draft.exists():
            _redact(draft)
            os.replace(draft, output)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _redact(path: Path) -> None:
    """Redact an executed copy. Its parameters and outputs can contain private paths and errors."""
    content = json.loads(path.read_text("utf-8"))
    content["metadata"]["papermill"] = _redacted(content["metadata"].get("papermill", {}))
    for cell in content["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["source"] = _redacted(cell["source"])
        if "outputs" in cell:
            cell["outputs"] = _redacted(cell["outputs"])
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redacted(value)
        case list():
            return [_redacted(one) for one in value]
        case dict():
            return {key: _redacted(one) for key, one in value.items()}
    return value


def find_notebook(name: str) -> Path:
    """Return the path of a committed notebook.

    Raises:
        ValueError: if the folder notebooks/ does not contain it.
    """
    path = FOLDER / f"{name}.ipynb"
    if not path.is_file():
        raise ValueError(
            f"notebook {name!r} is not in {FOLDER}; install scorematrix again, or work in a clone (`make setup`)"
        )
    return path


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Reject what papermill would accept: a parameter that the notebook does not have, a missing parameters cell.

    Raises:
        ValueError: naming the notebook and the parameter.
    """
    import papermill

    with quietly():
        known = papermill.inspect_notebook(str(notebook))
    if not known:
        raise ValueError(f"{notebook.name} has no cell tagged `parameters`; papermill's values would be overwritten")
    if unknown := sorted(parameters.keys() - known.keys()):
        raise ValueError(f"{notebook.name} has no parameter {unknown[0]!r}; it has {', '.join(known)}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence papermill's log, errors included because they are raised as well, and warnings about dependencies.

    This affects the entire process. To execute notebooks in threads, enter it once around all of them.
    """
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
