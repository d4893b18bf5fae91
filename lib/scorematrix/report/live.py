"""A run's progress in JupyterLab: one output that is written anew, no widget, nothing to install."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from scorematrix.report.elements import Fragment, text
from scorematrix.report.progress import status_rows
from scorematrix.results.status import RunFollower, RunStatus
from scorematrix.results.store import RunStore

LEFT = 'style="text-align:left"'
EVERY_SECONDS = 2.0
"""Drawing takes processor time from what is being measured."""


def status_page(status: RunStatus, going_on: bool) -> Fragment:
    """A moment of a run; one that is not whole is called PARTIAL."""
    whole = status.total and status.done == status.total
    head = "Every round that can run here is recorded." if whole else "PARTIAL"
    head += "" if whole else ", a process is filling the run" if going_on else ", nobody is filling the run now"
    rows = "".join(
        f'<tr><th scope="row" {LEFT}>{text(name)}</th><td {LEFT}>{text(words)}</td></tr>'
        for name, words in status_rows(status)
    )
    bar = f'<progress value="{status.done}" max="{max(status.total, 1)}" aria-label="rounds done"></progress>'
    return Fragment(f'<div role="status"><p><b>{text(head)}</b> {bar}</p><table>{rows}</table></div>')


def follow_run(store: RunStore, seconds: float = 0.0) -> None:
    """Show where a run is, and go on showing it for so long, or until nobody fills it any more.

    Interrupting the kernel ends it at once and without an error; the run goes on.
    """
    from IPython.display import display

    follower, end = RunFollower(store), time.monotonic() + seconds
    handle = display(status_page(follower.look(), going_on := store.in_use()), display_id=True)
    assert handle is not None  # it was asked for by `display_id`
    with contextlib.suppress(KeyboardInterrupt):
        while going_on and time.monotonic() < end:
            time.sleep(min(EVERY_SECONDS, max(end - time.monotonic(), 0.0)))
            handle.update(status_page(follower.look(), going_on := store.in_use()))


class NotebookProgress:
    """The same for a run that is started from a notebook: `matrix.fill_run(..., on_progress=progress)`."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._follower = RunFollower(store)
        self._ended = threading.Event()
        self._drawer = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Self:
        from IPython.display import display

        handle = display(status_page(self._follower.look(), True), display_id=True)
        assert handle is not None  # it was asked for by `display_id`
        self._handle = handle
        self._drawer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._drawer.join()
        self._handle.update(status_page(self._follower.look(), False))

    def __call__(self, event) -> None:
        """Events need no drawing of their own: what they tell of is on disk."""

    def _draw(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._handle.update(status_page(self._follower.look(), True))
