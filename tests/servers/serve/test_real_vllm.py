"""A real vLLM on this CPU with the real weights: started, audited, asked for its speed, stopped (make test-servers).

The verdict is printed, and kept under outputs/servers; `outputs/reference/servers` holds one that is worth keeping.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from rich.console import Console

from scorematrix.models import Model
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.report.audits import audit_sentence, audit_tables, replay_lines
from scorematrix.report.terminal import terminal_table
from scorematrix.results.audits import AuditReport
from scorematrix.scoring.registry import peer_python
from scorematrix.servers.audit import audit_server
from scorematrix.servers.client import ScoreClient
from scorematrix.workload import ScoreRequest
from tests.conftest import ROOT

pytestmark = [pytest.mark.servers, pytest.mark.timeout(3000)]

NAME = "smollm2-135m"
START_SECONDS = 600
KNOWN = {
    "0.32.0": {"too long": "truncated silently, from the end", "bad requests": "a label twice (answered_nonsense)"}
}
"""What versions are known to do: a gate that must fail, with words of it."""


@pytest.fixture(scope="module")
def vllm_url(smollm2: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = peer_python("vllm")
    if not python.is_file():
        pytest.skip("the environment 'vllm' is not built: make peers")
    folder = tmp_path_factory.mktemp("vllm")
    # vLLM scores nothing without a tokenizer, token ids neither.
    write_hf_folder(folder / "model", smollm2.config, smollm2.weights, "float32", smollm2.tokenizer.to_json())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model"),
               "--served-model-name", NAME, "--dtype", "float32", "--enforce-eager", "--max-model-len", "4096",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    own = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")} | own
    log, url = folder / "log.txt", f"http://127.0.0.1:{port}"
    with open(log, "wb") as out:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for_health(url, server, log)
        yield url
        assert server.poll() is None, f"it died of what was sent: {log.read_text(errors='replace')[-3000:]}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def wait_for_health(url: str, server: subprocess.Popen, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        assert server.poll() is None, f"it ended at its start: {log.read_text(errors='replace')[-3000:]}"
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"not healthy after {START_SECONDS} s: {log.read_text(errors='replace')[-3000:]}")


def items_per_second(url: str, model: Model) -> dict[str, float]:
    """A small request, 512-token query and 64 items of 20 tokens: each query new, then the last one again."""
    client, rng = ScoreClient(url, server="vllm", model=NAME, timeout_seconds=900), np.random.default_rng(5)
    items = rng.integers(17, model.config.vocab_size, (64, 20)).tolist()
    seconds, request = [], None
    for _ in range(3):
        request = ScoreRequest(rng.integers(17, model.config.vocab_size, 512).tolist(), items, [9230, 2838])
        start = time.perf_counter()
        client.score(request)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    client.score(request)
    return {"new query": 64 / statistics.median(seconds), "same again": 64 / (time.perf_counter() - start)}


def kept(report: AuditReport, version: str, speed: dict[str, float], seconds: float) -> str:
    """The outcome as text and, beside it, as JSON."""
    shown = Console(file=io.StringIO(), width=160, highlight=False)
    shown.print(*map(terminal_table, audit_tables(report)))
    shown.print("\n".join(replay_lines(report)), soft_wrap=True, markup=False)
    speeds = ", ".join(f"{name} {value:.1f}" for name, value in speed.items())
    text = (
        f"# vLLM {version} on a CPU, audited\n\n{audit_sentence(report)}. {NAME}, float32, `--enforce-eager "
        f"--max-model-len 4096`. The audit took {seconds:.0f} s. Items/s over HTTP, two labels, so every item twice "
        f"(512-token query, 64 items of 20 tokens, one request at a time): {speeds}.\n\n"
        f"```\n{shown.file.getvalue()}```\n"
    )
    folder = ROOT / "outputs" / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    found = {"server": "vllm", "version": version, "audit_seconds": seconds, "items_per_second": speed}
    (folder / "vllm-audit.json").write_text(json.dumps(found | {"audit": report.model_dump(mode="json")}, indent=1))
    (folder / "vllm-audit.md").write_text(text)
    return text


def test_the_audit_of_a_real_vllm(vllm_url: str, smollm2: Model) -> None:
    version = httpx.get(f"{vllm_url}/version").json()["version"]
    start = time.perf_counter()
    report = audit_server(
        vllm_url, smollm2, server="vllm", served_model=NAME, device="cpu", timeout_seconds=300, risky=True
    )
    seconds = time.perf_counter() - start
    print(kept(report, version, items_per_second(vllm_url, smollm2), seconds))
    gates = {gate.name: gate for gate in report.gates}
    for name in ("form", "parity", "ranking", "neighbours", "concurrency", "insertions", "item_first"):
        assert gates[name].status == "passed", gates[name]
    for name, words in KNOWN.get(version.split("+")[0], {}).items():
        assert gates[name].status == "failed" and words in gates[name].detail, gates[name]
