"""Jupyter kernels on sockets in a private folder, not on TCP ports that other users of the machine can reach."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import psutil
from jupyter_client.manager import AsyncKernelManager

LONGEST_FOLDER = 80
"""Every system allows about 100 characters in a socket's path."""


PREFIX = "scorematrix-kernel-"
_managers: weakref.WeakSet[PrivateKernelManager] = weakref.WeakSet()


def end_kernels() -> None:
    """Kill the running kernels that this process started, so that nothing waits for them any longer."""
    for manager in list(_managers):
        pid = getattr(manager.provisioner, "pid", None)
        if pid and manager.has_kernel:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def sweep_kernels() -> None:
    """Remove the kernel folders of processes that no longer run."""
    for place in {tempfile.gettempdir(), "/tmp"}:
        for folder in Path(place).glob(f"{PREFIX}*-*"):
            pid = folder.name.removeprefix(PREFIX).split("-")[0]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


class PrivateKernelManager(AsyncKernelManager):
    """A kernel manager that uses Unix domain sockets in a private folder per kernel.

    By default Jupyter uses fixed names in the working directory, where two concurrent runs collide.
    """

    def __init__(self, **options: object) -> None:
        prefix = f"{PREFIX}{os.getpid()}-"
        folder = tempfile.mkdtemp(prefix=prefix)
        if len(folder) > LONGEST_FOLDER:
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix=prefix, dir="/tmp")
        self._folder = folder
        _managers.add(self)
        places = {"transport": "ipc", "ip": f"{folder}/socket", "connection_file": f"{folder}/connection.json"}
        super().__init__(**(places | options))

    def cleanup_ipc_files(self) -> None:
        """Remove the folder with the sockets."""
        super().cleanup_ipc_files()
        shutil.rmtree(self._folder, ignore_errors=True)
