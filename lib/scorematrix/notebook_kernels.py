"""Jupyter kernels on sockets in a private folder, not on TCP ports that other users of the machine can reach."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager

LONGEST_FOLDER = 80
"""Every system allows about 100 characters in a socket's path."""


_managers: weakref.WeakSet[PrivateKernelManager] = weakref.WeakSet()


def end_kernels() -> None:
    """Kill the running kernels that this process started, so that nothing waits for them any longer."""
    for manager in list(_managers):
        pid = getattr(manager.provisioner, "pid", None)
        if pid and manager.has_kernel:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


class PrivateKernelManager(AsyncKernelManager):
    """A kernel manager that uses Unix domain sockets in a private folder per kernel.

    By default Jupyter uses fixed names in the working directory, where two concurrent runs collide.
    """

    def __init__(self, **options: object) -> None:
        folder = tempfile.mkdtemp(prefix="kernel-")
        if len(folder) > LONGEST_FOLDER:
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="kernel-", dir="/tmp")
        self._folder = folder
        _managers.add(self)
        super().__init__(**({"transport": "ipc", "ip": f"{folder}/socket"} | options))

    def cleanup_ipc_files(self) -> None:
        """Remove the folder with the sockets."""
        super().cleanup_ipc_files()
        shutil.rmtree(self._folder, ignore_errors=True)
