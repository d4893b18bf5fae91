"""Kernels that talk over sockets in a private folder, not over TCP ports that other users of the machine can reach."""

from __future__ import annotations

from jupyter_client.manager import AsyncKernelManager


class PrivateKernelManager(AsyncKernelManager):
    """A kernel manager whose transport is Unix domain sockets."""

    def __init__(self, **options: object) -> None:
        super().__init__(**({"transport": "ipc"} | options))
