"""Find the compilers of absent targets on this machine, and run them in separate processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scorematrix.readiness.targets import Target

LIBTPU = Path(sys.prefix) / "tpu-compiler" / "libtpu" / "libtpu.so"
"""Where `make compilers` puts the TPU compiler. Among our packages it would make JAX look for a TPU at every start."""
CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
"""Packages with JAX's CUDA compiler. They take several GB with dependencies, so nothing here installs them."""
CHILD = [sys.executable, "-m", "scorematrix.scoring.jax.compile_only"]
MOST_PROCESSES = 4
"""A compiler takes one core and up to a few GB of memory."""


@dataclass(frozen=True)
class Compiler:
    """A compiler on this machine for a target.

    Attributes:
        variables: environment variables of its process.
        lacking: why there is none, and what to install; None if there is one.
    """

    name: str
    variables: dict[str, str]
    lacking: str | None = None


def find_compiler(where: Target) -> Compiler:
    """Return the compiler of a TPU or CUDA target.

    Raises:
        ValueError: if the TPU compiler is not installed; `make compilers` installs it quickly.
    """
    if where.kind == "tpu":
        if not LIBTPU.is_file():
            raise ValueError(f"the TPU compiler is not at {LIBTPU}; install it with `make compilers`")
        versions = sorted(LIBTPU.parents[1].glob("libtpu-*.dist-info"))
        name = versions[-1].name.removesuffix(".dist-info").replace("-", " ") if versions else "libtpu"
        # libtpu's lock on the chip would keep compilers from running side by side; none of them opens a chip.
        variables = {"TPU_LIBRARY_PATH": str(LIBTPU), "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
        return Compiler(name, variables)
    for plugin in CUDA_PLUGINS:
        if importlib.util.find_spec(plugin) is not None:
            # XLA cannot autotune without a GPU, so it takes the default of each kernel.
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()
            return Compiler(f"{plugin} {version(plugin)}", {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags})
    return Compiler(
        "none for CUDA",
        {},
        "the CUDA compiler for JAX is not installed here (no package jax-cuda13-plugin or jax-cuda12-plugin); install "
        "it with `.venv/bin/python -m pip install --constraint lib/constraints.txt 'jax[cuda13]'` (several GB), then "
        "repeat the command",
    )


class CompilerProcesses:
    """Compiler processes side by side, at most one per core; an idle one takes the next question."""

    def __init__(self, compiler: Compiler) -> None:
        n = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
        self._lacking = compiler.lacking
        self._pool = ThreadPoolExecutor(n)
        self._all = [_Process(compiler.variables) for _ in range(n)]
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._all:
            self._idle.put(process)

    def __enter__(self) -> CompilerProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True, wait=False)
        for process in self._all:
            process.end(wait_seconds=30 if kind is None else 0)

    def ask(self, question: dict[str, Any]) -> Future[dict[str, Any]]:
        return self._pool.submit(self._answer, question)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._lacking is not None:
            return {"status": "not_compiled", "error": self._lacking, "seconds": 0.0}
        process = self._idle.get()
        try:
            return process.ask(question)
        finally:
            self._idle.put(process)


class _Process:
    """A compiler process; it starts with a question, and again after it has died."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                CHILD,
                env=os.environ | self._variables,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if line.startswith("{"):
            return json.loads(line)
        code = self.end()
        return {"status": "failed", "error": f"the compiler's process ended with code {code}", "seconds": 0.0}

    def end(self, wait_seconds: float = 30) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # the process died with a question unread
            process.stdin.close()
        try:
            return process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
