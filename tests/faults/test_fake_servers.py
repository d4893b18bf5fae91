"""Every fault of the catalogue is caught and named, with the request that shows it; sound servers raise no alarm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from scorematrix import load_backend
from scorematrix.models import Model, load_model
from scorematrix.report.audits import audit_sentence, replay_lines
from scorematrix.results.audits import AuditReport
from scorematrix.servers.audit import audit_server
from tests.conftest import ROOT, call_cli, environment_of_users
from tests.faults.fake_servers import FAULTS, Sound, fake_server, honest, single_item_500
from tests.servers.serve.test_server import Server

HASTY = {"slow drip of the body": 0.5, "slow drip of the head": 0.5}
OWN_SEED = 11


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-llama", seed=OWN_SEED)


@pytest.fixture(scope="module")
def sound(model: Model) -> Sound:
    return Sound(load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32"), model)


def failed(report: AuditReport) -> dict[str, str]:
    return {gate.name: gate.detail for gate in report.gates if gate.status == "failed"}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught_and_named(name: str, model: Model, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorematrix.servers.audit.wire.GRACE_SECONDS", 0.5)  # a fake that dies is gone at once
    fault = FAULTS[name]
    with fake_server(sound, fault.answer) as url:
        report = audit_server(url, model, device="cpu", risky=True, timeout_seconds=HASTY.get(name, 20.0))
    found = failed(report)
    assert report.verdict == "unsound"
    assert all(words in found.get(gate, "") for gate, words in fault.gates.items()), found
    rows = {row.case: row.fault for row in report.contract}
    assert all(rows[case] == kind for case, kind in fault.rows.items()), rows
    assert all(gate.request for gate in report.gates if gate.status == "failed"), "each has the request that shows it"


def test_an_honest_fake_raises_no_alarm(model: Model, sound: Sound) -> None:
    """Else the faults' tests would prove the fake's own mistakes."""
    with fake_server(sound, honest) as url:
        report = audit_server(url, model, device="cpu", risky=True)
    assert report.verdict == "sound", failed(report)
    assert {row.state for row in report.contract} == {"agrees"}, report.contract


def test_a_server_that_scores_several_items_wrong_is_not_said_to_do_so_after_bad_requests(
    model: Model, sound: Sound
) -> None:
    """As sglang-jax with overlap scheduling does."""

    def mixed_up(sound: Sound, body: bytes, handler: object) -> tuple[int, bytes]:
        return sound.rows(body, lambda rows: [row[::-1] for row in rows] if len(rows) > 1 else rows)

    with fake_server(sound, mixed_up) as url:
        report = audit_server(url, model, device="cpu")
    assert {"parity", "neighbours"} <= failed(report).keys()
    assert {row.state for row in report.contract} == {"agrees", "not_sent"}, report.contract


def test_a_server_that_dies_of_minus_one(model: Model) -> None:
    command = [sys.executable, "-m", "tests.faults.fake_servers"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment_of_users(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        careful = audit_server(url, model, device="cpu")
        assert careful.verdict == "sound" and process.poll() is None, "nobody asked for the risky ones"
        assert {row.state for row in careful.contract[-4:]} == {"not_sent"}
        report = audit_server(url, model, device="cpu", risky=True)
        assert process.wait(10) == 1
    rows = {row.case: row for row in report.contract}
    assert rows["item id -1"].fault == "server_died" and json.loads(rows["item id -1"].request)["items"][-1] == [-1]
    assert rows["query id -1"].state == "not_sent" and "died of item id -1" in rows["query id -1"].answer
    assert failed(report) == {"bad requests": "item id -1 (server_died)"}


def test_the_request_shows_the_fault_again(model: Model, sound: Sound) -> None:
    with fake_server(sound, single_item_500) as url:
        report = audit_server(url, model, device="cpu")
        lines = replay_lines(report)
        assert lines and all(f": curl -s {url}/v1/score -H " in line for line in lines), lines
        gate = next(gate for gate in report.gates if gate.name == "form")
        assert httpx.post(report.url, content=gate.request).status_code == 500


SOUND = [("jax", "best_native"), ("pytorch", "best_native")]


@pytest.fixture(scope="module", params=SOUND, ids=lambda p: "-".join(p))
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    backend, view = request.param
    server = Server("--backend", backend, "--view", view, "--dtype", "float32", "--device", "cpu")
    yield server
    code, errors = server.stop()
    assert code == 0 and not errors, errors


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
def test_our_own_server_raises_no_alarm(seed: int, served: Server) -> None:
    report = audit_server(served.url, load_model("random:tiny-qwen3"), device="cpu", seed=seed, risky=True)
    assert report.verdict == "sound", failed(report)
    sentence = audit_sentence(report)
    assert sentence.startswith("sglang server: SOUND") and f" {len(report.gates)} " in sentence
    assert {row.state for row in report.contract} == {"agrees"}, [r for r in report.contract if r.state != "agrees"]


def test_the_command_shows_table_and_requests(sound: Sound) -> None:
    """The fake serves other weights than the command compares with: parity must fail, and the table stand."""
    with fake_server(sound, single_item_500) as url:
        asked = (
            "audit",
            "--url",
            url,
            "--model",
            "random:tiny-llama",
            "--device",
            "cpu",
            "--timeout",
            "20",
            "--seconds",
            "1",
        )
        shown, plain = call_cli(*asked), call_cli(*asked, "--json")
    assert shown.returncode == plain.returncode == 3, shown.stderr
    for words in ("a single item", "server error", "not sent", f"curl -s {url}/v1/score"):
        assert words in shown.stdout, shown.stdout
    (report,) = json.loads(plain.stdout)
    row = next(row for row in report["contract"] if row["case"] == "a single item")
    assert (row["status"], row["fault"], row["wanted"]) == (500, "server_error", "200")
    assert AuditReport.model_validate({k: v for k, v in report.items() if k != "verdict"}).verdict == "unsound"


def test_nobody_at_the_address_is_bad_input() -> None:
    done = call_cli("audit", "--url", "http://127.0.0.1:9", "--model", "random:tiny-llama")
    assert done.returncode == 2 and "http://127.0.0.1:9" in done.stderr, done.stderr
