"""The best-native view in PyTorch over a mesh: items over its `data` axis, weights over its `model` axis.

`scoring/sharding.py` explains the layout. A device is a process (`rank.py`): PyTorch drives one device from one process
at full speed. This process is rank 0 and implements the Backend protocol: it starts the others, sends each call's
request to all, and computes its share. DTensor distributes the weights over a DeviceMesh from rank 0, so the model is
read once. The engine then runs its kernels and compiled graphs on the local parts and sums with plain all-reduces,
because DTensor supports neither. gloo on CPUs, NCCL on GPUs.

If a rank dies or stalls, the error names it and the mesh ends: the other ranks have no complete model.
It mirrors scoring/jax/sharded.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from scorematrix.models.catalogue import Model, ModelDescription
from scorematrix.scoring.contract import AskedDType, CompileEvent, Scores
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.prefix_cache import PrefixCache
from scorematrix.scoring.pytorch import device as devices
from scorematrix.scoring.pytorch.rank import READY, Rank, RankConfig
from scorematrix.scoring.sharding import device_share
from scorematrix.workload.request import ScoreRequest

STALL_SECONDS = 300.0
"""Longest wait of a rank for another, which may be compiling."""
RANK = [sys.executable, "-m", "scorematrix.scoring.pytorch.rank"]


class ShardedBackend:
    """Backend `pytorch`, view `best_native`, over a mesh of processes. They end with this process or with `close`.

    Args:
        mesh: replicas of the model, and devices per replica.
        step_tokens: most item tokens that a replica computes together; None: as many as a share of the memory allows.
        reuse_prefix: number of queries whose keys and values are kept for calls with the same query.
        stall_seconds: longest wait of one rank for another before the mesh counts as broken.

    Raises:
        ValueError: if the mesh has more GPUs than there are, does not divide the model, or is a second one here.
        RuntimeError: if a rank died or stalled, with its last output; every later call raises it too.
    """

    def __init__(
        self,
        model: Model,
        *,
        mesh: Mesh,
        device: str = "auto",
        dtype: AskedDType = "auto",
        step_tokens: int | None = None,
        reuse_prefix: int = 0,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        device_share(model.config, mesh)
        PrefixCache(reuse_prefix)
        kind = check_devices(device, mesh)
        self._mesh, self._vocab_size, self._broken = mesh, model.config.vocab_size, None
        threads = torch.get_num_threads()
        self._others = OtherRanks(mesh)
        self._end = weakref.finalize(self, _end, self._others, threads)
        share = max(1, threads // mesh.size) if kind == "cpu" else threads
        settings = (mesh, self._others.rendezvous, kind, dtype, step_tokens, reuse_prefix, share, stall_seconds)
        described = ModelDescription(model.name, model.source, model.config, None)
        with self._together():
            self._others.start([(described, RankConfig(rank, *settings)) for rank in range(1, mesh.size)])
            self._rank = Rank(model, RankConfig(0, *settings))
        self.compile_events: list[CompileEvent] = self._rank.compile_events
        info = self._rank.info
        self.info = dataclasses.replace(info, settings={**info.settings, "mesh": str(mesh)})

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        with self._together():
            n_before = len(self.compile_events)
            self._others.tell("make_ready", list(requests))
            self._note_others(self._rank.make_ready(requests), n_before)

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._vocab_size)
        with self._together():
            n_before = len(self.compile_events)
            self._others.tell("answer", request)
            scores, n_made = self._rank.answer(request)
            self._note_others(n_made, n_before)
        return scores

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included, the query once per replica with items."""
        shares = (self._rank.share_of(request, replica)[1] for replica in range(self._mesh.data))
        return sum(self._rank.computed_tokens(share) for share in shares if share is not None)

    def close(self) -> None:
        """End the other ranks."""
        self._broken = self._broken or "it was closed"
        self._end()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Wrap what all ranks must do or none. Any error inside breaks the mesh."""
        if self._broken:
            raise RuntimeError(f"this sharded backend is broken: {self._broken}; load it again")
        try:
            yield
            self._broken = self._others.last_words()
        except BaseException as error:
            self._broken = self._others.last_words(wait_seconds=5) or f"{type(error).__name__}: {error}"
            self._end()
            if isinstance(error, Exception):
                raise RuntimeError(f"a sharded call failed: {self._broken}") from error
            raise
        if self._broken:
            self._end()
            raise RuntimeError(f"a sharded call failed: {self._broken}")

    def _note_others(self, n_made: int, n_before: int) -> None:
        """Record compiles on the other ranks, too (rule 13)."""
        if others := n_made - (len(self.compile_events) - n_before):
            self.compile_events.append(
                CompileEvent(f"best_native graphs, {others} times on other ranks", 0.0, 0.0, False)
            )


def check_devices(device: str, mesh: Mesh) -> str:
    """Return the mesh's kind of device, cpu or gpu. On a CPU, any number of ranks share the cores.

    Raises:
        ValueError: if there are fewer GPUs, with both numbers; if this process is in a group already.
    """
    kind = "cpu" if devices.choose_device(device).type == "cpu" else "gpu"
    if kind == "gpu" and (n_gpus := torch.cuda.device_count()) < mesh.size:
        raise ValueError(
            f"mesh={str(mesh)!r} needs {mesh.size} GPUs, PyTorch sees {n_gpus}; use a mesh of at most {n_gpus}"
        )
    if dist.is_initialized():
        raise ValueError(
            f"mesh={str(mesh)!r}: this process is in a torch.distributed group of {dist.get_world_size()} already; "
            "close the sharded backend that was loaded before, or load this one in another process"
        )
    return kind


class OtherRanks:
    """The processes of all ranks but the first."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._folder = tempfile.TemporaryDirectory(prefix="scorematrix-mesh-")
        self.rendezvous = str(Path(self._folder.name) / "rendezvous")
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, assignments: Sequence[tuple[ModelDescription, RankConfig]]) -> None:
        """Start a process for each station, and wait until all are up."""
        for _, station in assignments:
            with self._log(station.rank).open("wb") as log:
                process = subprocess.Popen(RANK, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            self._processes.append(process)
        for process, one in zip(self._processes, assignments, strict=True):
            _send(process, pickle.dumps(one))
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != READY:
                raise RuntimeError("a rank did not start")

    def tell(self, order: str, argument: Any) -> None:
        """Send an order to all; they execute it in parallel with this process."""
        message = pickle.dumps((order, argument))
        for process in self._processes:
            _send(process, message)

    def last_words(self, wait_seconds: float = 0.0) -> str | None:
        """Return which ranks have ended, and their last output; None while all are running."""
        until = time.monotonic() + wait_seconds
        while True:
            codes = {rank: process.poll() for rank, process in enumerate(self._processes, start=1)}
            if ended := [self._words(rank, code) for rank, code in codes.items() if code is not None]:
                return "; ".join(ended)
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _words(self, rank: int, code: int) -> str:
        tail = self._log(rank).read_text(errors="replace").strip()[-600:]
        return f"rank {rank} of mesh {str(self._mesh)!r} ended with code {code}" + (f": {tail}" if tail else "")

    def end(self) -> None:
        """End all ranks: close their input, and kill those that do not end on it."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self._folder.cleanup()

    def _log(self, rank: int) -> Path:
        return Path(self._folder.name) / f"rank{rank}.log"


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(message)
    process.stdin.flush()


def _end(others: OtherRanks, threads: int) -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
    others.end()
    torch.set_num_threads(threads)
