"""Kernels that talk over sockets in a private folder, not over TCP ports that other users of the machine can reach."""

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
"""A socket's path may have about 100 characters on any system."""


_managers: weakref.WeakSet[PrivateKernelManager] = weakref.WeakSet()


def end_kernels() -> None:
    """Kill the kernels that this process has started and that still live: whoever waits for them goes on."""
    for manager in list(_managers):
        pid = getattr(manager.provisioner, "pid", None)
        if pid and manager.has_kernel:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


class PrivateKernelManager(AsyncKernelManager):
    """A kernel manager whose transport is Unix domain sockets, in a folder that this kernel and nobody else has.

    Jupyter itself would put them into the working directory under fixed names, where two runs at a time collide.
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
