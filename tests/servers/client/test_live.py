"""Servers that are launched: answered, logged, ended with whoever started them, started again when they die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from scorematrix.measure.process import WAITING, processes_at
from scorematrix.models import load_model
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.servers.client import LiveBackend, ServerFault, ServerNotStarted
from scorematrix.servers.client.about import ask_about
from scorematrix.servers.client.launched import LaunchedServer, free_port
from scorematrix.workload import ScoreRequest

SCRIPT = Path(__file__).with_name("dying_server.py")
REQUEST = ScoreRequest((1, 2, 3), ((4,), (5, 6)), (7, 8))


def launched(tmp_path: Path, *more: str, start_seconds: float = 30) -> LaunchedServer:
    port = free_port()
    command = [sys.executable, str(SCRIPT), str(port), *more]
    return LaunchedServer(command, port, variables={}, log=tmp_path / "log" / "s.log", start_seconds=start_seconds)


def gone(pid: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        ("serve --port {port} --model '{model}'", ["serve", "--port", "1", "--model", "a b"]),
        ("""x {port} --extra '{"a": {"b": 1}}'""", ["x", "1", "--extra", '{"a": {"b": 1}}']),
    ],
)
def test_a_command_is_split_and_filled_in(launch: str, words: list[str]) -> None:
    values = dict.fromkeys(PLACEHOLDERS, "") | {"port": "1", "model": "a b"}
    assert ServerPlace(launch=launch).command(values) == words


@pytest.mark.parametrize(
    ("launch", "error"),
    [
        ("", "command"),
        ("serve", "{port}"),
        ("serve {prt}", "{prt}"),
        ("serve '{port}", "quotes"),
    ],
)
def test_a_command_that_cannot_be_is_refused(launch: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        ServerPlace(launch=launch).command(dict.fromkeys(PLACEHOLDERS, ""))
    assert error in str(caught.value)


def test_it_answers_and_ends_with_all_that_it_started(tmp_path: Path) -> None:
    server = launched(tmp_path, "9", str(tmp_path / "child"))
    assert server.start() > 0 and server.is_alive()
    assert httpx.get(f"{server.url}/health").status_code == 200
    child = int((tmp_path / "child").read_text())
    assert psutil.pid_exists(child)
    server.stop()
    assert not server.is_alive() and gone(child)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/health")


def test_it_does_not_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.servers.client.test_live import launched\n"
        "server = launched(Path(sys.argv[2]), '9', sys.argv[2] + '/child'); server.start()\n"
        "print('up', flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", code, root, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout and parent.stdout.readline() == "up\n"
    child = int((tmp_path / "child").read_text())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_processes_of_a_server_at_an_address_of_this_machine_are_known(tmp_path: Path) -> None:
    server = launched(tmp_path, "9", str(tmp_path / "child"))
    server.start()
    try:
        found = {process.pid for process in processes_at(server.url.replace("127.0.0.1", "localhost")) or ()}
        assert int((tmp_path / "child").read_text()) in found and len(found) == 2
    finally:
        server.stop()
    assert processes_at(server.url) == []
    assert processes_at("http://198.51.100.1:80") is None and processes_at("http://no.invalid") is None


def test_how_threads_wait_is_inherited_unless_the_params_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WAITING["passive"].items():
        monkeypatch.setenv(name, value)

    def environment(variables: dict[str, str]) -> dict[str, str]:
        log = tmp_path / "s.log"
        log.unlink(missing_ok=True)
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        server = LaunchedServer([sys.executable, "-c", code], 1, variables=variables, log=log, start_seconds=30)
        with pytest.raises(ServerNotStarted):
            server.start()
        return {name: value for name, value in json.loads(log.read_text()).items() if name in WAITING["passive"]}

    assert environment({"A": "b"}) == WAITING["passive"]
    assert environment({"OMP_WAIT_POLICY": "active"}) == {"OMP_WAIT_POLICY": "active"}


@pytest.mark.parametrize(
    ("command", "start_seconds", "error"),
    [
        (["-c", "print('no such flag'); raise SystemExit(3)"], 30, "code 3: no such flag"),
        (["-c", "import time; print('still loading', flush=True); time.sleep(600)"], 4, "start_seconds=4"),
    ],
)
def test_one_that_does_not_come_up_says_why(
    tmp_path: Path, command: list[str], start_seconds: float, error: str
) -> None:
    server = LaunchedServer(
        [sys.executable, *command], free_port(), variables={}, log=tmp_path / "s.log", start_seconds=start_seconds
    )
    with pytest.raises(ServerNotStarted) as caught:
        server.start()
    assert error in str(caught.value)
    assert not server.is_alive()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = LaunchedServer(["no-such-program"], 1, variables={}, log=tmp_path / "s.log", start_seconds=30)
    with pytest.raises(ServerNotStarted, match="code 127: no-such-program"):
        server.start()


def test_one_that_dies_is_started_again_so_often_and_no_oftener(tmp_path: Path) -> None:
    place = ServerPlace(launch=f"{{python}} {SCRIPT} {{port}} 1", restarts=1, start_seconds=30)
    backend = LiveBackend(
        "sglang", place, model=load_model("random:tiny-llama"), dtype="float32", device="cpu", log=tmp_path / "s.log"
    )
    try:
        assert backend.score(REQUEST).tolist() == [[0.5, 0.5]] * 2
        with pytest.raises(ServerFault, match="server_died"):
            backend.score(REQUEST)
        assert backend.score(REQUEST).shape == (2, 2), "started again"
        for _ in range(2):
            with pytest.raises(ServerFault, match="server_died|connection"):
                backend.score(REQUEST)
    finally:
        backend.close()
    words = " | ".join(backend.events)
    assert words.count("server_died") == 3 and "1 of 1" in words, words
    assert "restarts=1" in words and "out of luck" in words
    assert backend.info.settings["served_model"] == "fake" and backend.info.settings["server_version"] == "1.2"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, {"version": None, "model": None, "flags": {}}),
        (
            {"/version": {"version": "0.32.0"}, "/v1/models": {"data": [{"id": "m", "owned_by": "vllm"}]}},
            {"software": "vllm 0.32.0", "version": "0.32.0", "model": "m", "flags": {}},
        ),
        (
            {"/health": {"backend": "jax", "view": "best_native", "version": "1.0"}},
            {"software": "scorematrix serve (jax best_native) 1.0"},
        ),
        (
            {
                "/get_server_info": {
                    "version": "0.5",
                    "tp_size": 2,
                    "api_key": "k",
                    "dtype": "bfloat16",
                    "lora": {"a": 1},
                }
            },
            {"version": "0.5", "dtype": "bfloat16", "flags": {"tp_size": 2, "dtype": "bfloat16"}},
        ),
        ({"/health": [1], "/version": "nonsense"}, {"version": None}),
    ],
)
def test_what_a_server_tells_of_itself(answers: dict, told: dict) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    with httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer)) as http:
        about = ask_about(http)
    assert {name: getattr(about, name) for name in told} == told


def test_other_weights_or_another_number_format_are_refused(tmp_path: Path) -> None:
    model = load_model("random:tiny-llama")
    serve = "{python} -m scorematrix serve --backend noop --model random:tiny-qwen3 --port {port}"
    with pytest.raises(ValueError, match="weights_sha256="):
        LiveBackend(
            "sglang", ServerPlace(launch=serve), model=model, dtype="float32", device="cpu", log=tmp_path / "s.log"
        )
    serve = "{python} -m scorematrix serve --backend noop --model random:tiny-llama --port {port}"
    with pytest.raises(ValueError, match="dtype=float32.*bfloat16"):
        LiveBackend(
            "sglang", ServerPlace(launch=serve), model=model, dtype="bfloat16", device="cpu", log=tmp_path / "s.log"
        )


@pytest.mark.chaos
def test_one_that_keeps_queries_must_be_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # in the servers: what they compile is not looked at
    serve = (
        "{python} -m scorematrix serve --backend pytorch --model {model} --port {port} --reuse-prefix 2 --dtype float32"
    )
    options = dict(model=load_model("random:tiny-llama"), dtype="float32", device="cpu", log=tmp_path / "s.log")
    with pytest.raises(ValueError, match="reuse_prefix=2.*keeps_prefix=False"):
        LiveBackend("sglang", ServerPlace(launch=serve), **options)
    declared = LiveBackend("sglang", ServerPlace(launch=serve, keeps_prefix=True), **options)
    declared.close()
    assert declared.info.settings["reuse_prefix"] == 1
