"""Every reason to skip, from a table of machines."""

from __future__ import annotations

import dataclasses
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from scorematrix.readiness import Machine, check_readiness, probe_machine, target
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.scoring.place import ServerPlace
from tests.factory import CPU_ONLY

G4 = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
WITH_G4 = dataclasses.replace(
    CPU_ONLY, nvidia=(G4,), nvidia_evidence=f"nvidia-smi lists {G4}",
    frameworks=CPU_ONLY.frameworks | {"pytorch": FrameworkDevices((("gpu", G4),))},
)  # fmt: skip
WITH_TPU = dataclasses.replace(
    CPU_ONLY, has_tpu=True, tpu_evidence="device nodes /dev/vfio/0",
    frameworks=CPU_ONLY.frameworks | {"jax": FrameworkDevices((("tpu", "TPU v6 lite"),))},
)  # fmt: skip
WITH_4_TPUS = dataclasses.replace(
    WITH_TPU, frameworks=CPU_ONLY.frameworks | {"jax": FrameworkDevices((("tpu", "TPU v6 lite"),) * 4)}
)
BROKEN = dataclasses.replace(
    WITH_G4, frameworks=CPU_ONLY.frameworks | {"pytorch": FrameworkDevices((), "pytorch failed to start: no driver")}
)


@pytest.mark.parametrize(
    ("machine", "where", "backend", "reason", "words"),
    [
        (CPU_ONLY, "cpu", "jax", None, "CPU"),
        (CPU_ONLY, "gpu-g4", "pytorch", "no_device", "nvidia-smi is not on PATH"),
        (CPU_ONLY, "tpu-v6e-1", "jax", "no_device", "no /dev/accel"),
        (CPU_ONLY, "tpu-v6e-1", "pytorch", "unsupported", "TPU"),
        (WITH_G4, "gpu-g4", "pytorch", None, G4),
        (WITH_G4, "gpu-h100", "pytorch", "no_device", f"lists {G4}"),
        (WITH_G4, "gpu-g4", "jax", "not_installed", "jax sees cpu"),
        (BROKEN, "gpu-g4", "pytorch", "not_installed", "no driver"),
        (WITH_TPU, "tpu-v6e-1", "jax", None, "TPU v6 lite"),
        (WITH_TPU, "tpu-v6e-4", "jax", "no_device", "1 of the 4 chips"),
        (WITH_4_TPUS, "tpu-v6e-4", "jax", None, "TPU v6 lite, TPU v6 lite"),
        (WITH_4_TPUS, "tpu-v6e-1", "jax", None, "TPU v6 lite"),
    ],
)  # fmt: skip
def test_states(machine: Machine, where: str, backend: str, reason: str | None, words: str) -> None:
    (state,) = check_readiness([(where, backend, ["portable"])], machine, "m").states
    assert state.reason == reason and words in state.evidence
    assert (state.state == "ready") == (reason is None)
    assert (state.next_step is None) == (reason is None), "a skip says what to do next"


@pytest.mark.parametrize(
    ("where", "other"), [("gpu-l4", "NVIDIA L40S"), ("gpu-h200", "NVIDIA GH200 480GB"), ("gpu-b200", "NVIDIA GB200")]
)
def test_no_gpu_is_taken_for_another_whose_name_it_contains(where: str, other: str) -> None:
    seen = CPU_ONLY.frameworks | {"pytorch": FrameworkDevices((("gpu", other),))}
    machine = dataclasses.replace(CPU_ONLY, nvidia=(other,), nvidia_evidence=f"lists {other}", frameworks=seen)
    (state,) = check_readiness([(where, "pytorch", ["portable"])], machine, "m").states
    assert state.reason == "no_device" and other in state.evidence


def test_only_skips_the_others_by_user() -> None:
    needed = [("cpu", "jax", ["portable"]), ("cpu", "pytorch", ["portable"])]
    jax, pytorch = check_readiness(needed, CPU_ONLY, "m", only=["jax"]).states
    assert jax.state == "ready" and pytorch.reason == "by_user"


def test_live_servers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{here.server_port}"
        started, absent = ServerPlace(launch="{python} {port}"), ServerPlace(launch="{peers}/no/python {port}")
        table = [
            # where it is, on which target, reason, words of evidence and next step
            (ServerPlace(url=url), "cpu", None, url, None),
            (ServerPlace(url=url), "gpu-g4", None, url, None),  # wherever that is
            (ServerPlace(url=nobody), "cpu", "no_answer", nobody, "server.launch"),
            (started, "cpu", None, "CPU", None),
            (
                ServerPlace(launch="{python} {port}"),
                "gpu-g4",
                "no_device",
                "nvidia-smi is not on PATH",
                "create a G4 VM",
            ),
            (
                absent,
                "cpu",
                "not_installed",
                "peers/no/python",
                "install sglang",
            ),
        ]
        for place, where, reason, evidence, step in table:
            (state,) = check_readiness([(where, "sglang", ["server"])], CPU_ONLY, "m", servers={"sglang": place}).states
            assert state.reason == reason and evidence in state.evidence, state
            assert (step or "") in (state.next_step or "") and bool(step) == bool(state.next_step)
        here.shutdown()


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    (state,) = check_readiness([("cpu", "pytorch", ["portable"])], CPU_ONLY, "m").states
    assert state.reason == "not_installed" and "torch" in state.evidence and "make setup" in state.next_step


def test_this_machine_can_be_asked() -> None:
    machine = probe_machine()
    assert machine.frameworks["jax"].error is None and machine.frameworks["pytorch"].error is None


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="target='gpu-g5'.*'gpu-g4'"):
        target("gpu-g5")
