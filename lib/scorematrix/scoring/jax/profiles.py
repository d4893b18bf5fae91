"""JAX's part of `scoring.profiles`: run XLA's profiler and group its instructions by named scope."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from scorematrix.scoring.jax.best_native import BestNativeBackend, compile_program
from scorematrix.scoring.profiles import PARTS, timed
from scorematrix.workload.request import ScoreRequest

INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%([\w.-]+) = .*?metadata=\{[^}]*?op_name="([^"]*)"', re.MULTILINE)


def profiled_parts(backend: BestNativeBackend, request: ScoreRequest) -> tuple[float, list[tuple[str, float]]]:
    """Profile one call: its seconds, and (part, seconds) of each instruction."""
    kept, before = backend._programs, (backend._config, backend._weights)
    try:
        backend._programs = {
            key: compile_program(*before, key, backend._form, backend._device, traced=True)[0]
            for _, key in backend._steps(request, False)
        }
        backend.score(request)
        scopes = {
            name: scope for program in backend._programs.values() for name, scope in scopes_of(program.as_text() or "")
        }
        with tempfile.TemporaryDirectory(prefix="profile-") as folder:
            with jax.profiler.trace(folder):
                seconds = timed(lambda: backend.score(request))
            (path,) = Path(folder).rglob("*.trace.json.gz")
            events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    finally:
        backend._programs = kept
    return seconds, list(read_events(events, scopes))


def scopes_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield (instruction, scope path) for a program's HLO text. Loops are skipped: their bodies are listed too."""
    for name, scope in INSTRUCTION.findall(text):
        if scope.rsplit("/", 1)[-1] not in ("while", "closed_call", "cond"):
            yield name, scope


def read_events(events: list[dict[str, Any]], scopes: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Yield (part, seconds) for each trace event of an instruction or of a device stream."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    for event in events:
        if event.get("ph") != "X":
            continue
        process, thread = processes.get(event["pid"], ""), threads.get((event["pid"], event["tid"]), "")
        if process.startswith("/device:"):
            # The device's other lines repeat the same time as totals.
            if "Stream" in thread or thread == "XLA Ops":
                name = event.get("args", {}).get("hlo_op") or event["name"]
                yield part_of(scopes.get(name, "")), event["dur"] / 1e6
        elif event["name"] in scopes:
            yield part_of(scopes[event["name"]]), event["dur"] / 1e6


def part_of(scope: str) -> str:
    """Return the innermost scope that names a part."""
    return next((name for name in reversed(scope.split("/")) if name in PARTS), "other")
