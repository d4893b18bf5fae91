"""`scorematrix serve` as a real process: its answers are the backend's, and nothing that a client sends ends it."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorematrix import load_backend
from scorematrix.models import Model, load_model
from scorematrix.workload import ScoreRequest
from tests.conftest import call_cli
from tests.servers.serve.process import MODEL, Server

GOOD = {"query": [5, 6, 7, 8], "items": [[9], [10, 11], [12, 13, 14]], "label_token_ids": [3, 4], "apply_softmax": True}


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    server = Server("--backend", "pytorch", "--view", "portable", "--dtype", "float32", "--device", "cpu",
                    "--max-body-mib", "1", "--max-items", "100")  # fmt: skip
    yield server
    assert server.process.poll() is None, "it has outlived everything that the tests sent"
    code, errors = server.stop()
    assert code == 0
    assert set(errors.splitlines()) <= {"WARNING:  Invalid HTTP request received."}, errors


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(MODEL)


def test_answers_are_the_backends_own(client: httpx.Client, model: Model) -> None:
    backend = load_backend("pytorch", model=model, device="cpu", dtype="float32")
    for softmax in (True, False):
        answer = client.post("/v1/score", json=GOOD | {"apply_softmax": softmax}).json()
        expected = backend.score(ScoreRequest(GOOD["query"], GOOD["items"], [3, 4], softmax))
        assert np.abs(np.array(answer["scores"]) - expected).max() < 1e-6
        assert (answer["object"], answer["model"]) == ("scoring", MODEL)
        assert answer["usage"]["prompt_tokens"] == 3 * 4 + 6
    first = client.post("/v1/score", json=GOOD | {"item_first": True}).json()["scores"]
    alone = [backend.score(ScoreRequest(item, [GOOD["query"]], [3, 4]))[0] for item in GOOD["items"]]
    assert np.abs(np.array(first) - np.array(alone)).max() < 1e-6


def test_scores_under_load_are_the_scores_alone(client: httpx.Client) -> None:
    """Requests that come together are joined where they can be: nobody's answer changes, everybody gets his own."""
    rng = np.random.default_rng(3)
    bodies = [GOOD | {"query": [5, 6, int(q)], "items": rng.integers(0, 256, (int(n), 3)).tolist()}
              for q, n in zip(rng.integers(0, 3, 40), rng.integers(1, 5, 40), strict=True)]  # fmt: skip
    alone = [client.post("/v1/score", json=body).json()["scores"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: client.post("/v1/score", json=body).json()["scores"], bodies))
    assert all(np.abs(np.array(a) - np.array(b)).max() < 1e-5 for a, b in zip(alone, together, strict=True))
    metrics = client.get("/metrics").text
    calls = float(re.search(r"^scorematrix_backend_calls ([\d.]+)", metrics, re.MULTILINE).group(1))
    answers = float(re.search(r'^scorematrix_answers_total{code="200"} ([\d.]+)', metrics, re.MULTILINE).group(1))
    assert calls < answers, "some requests shared a call"


def test_health_says_what_is_served(client: httpx.Client, model: Model) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["backend"] == "pytorch" and health["dtype"] == "float32"
    assert health["weights_sha256"] == model.weights.sha256 and health["vocab_size"] == model.config.vocab_size


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/v1/score", b"{", 400),
        ("POST", "/v1/score", json.dumps(GOOD | {"label_token_ids": [-1]}).encode(), 400),
        ("POST", "/v1/score", json.dumps(GOOD | {"items": [[1]] * 101}).encode(), 413),
        ("POST", "/v1/score", json.dumps(GOOD | {"query": [1] * 512}).encode(), 400),  # 512 positions, none cut
        ("POST", "/v1/score", json.dumps(GOOD | {"items": []}).encode(), 200),
        ("POST", "/v1/score", b" " * (2**20 + 1), 413),
        ("GET", "/v1/score", b"", 405),
        ("POST", "/v1/generate", b"{}", 404),
    ],
)
def test_codes(client: httpx.Client, method: str, path: str, body: bytes, code: int) -> None:
    answer = client.request(method, path, content=body)
    assert answer.status_code == code
    if code in (400, 413):
        error = answer.json()
        assert error["object"] == "error" and error["code"] == code and error["type"] == "BadRequestError"
        assert error["message"] and error["param"] is None


def test_a_body_without_a_length_is_cut_at_the_limit(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 2**16

    assert client.post("/v1/score", content=endless()).status_code == 413


def test_clients_that_hang_up_or_never_finish_disturb_nobody(served: Server, client: httpx.Client) -> None:
    head = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    slow = socket.create_connection(("127.0.0.1", served.port))
    slow.sendall(head + b"{")  # and nothing more
    for garbage in (head + b"{", b"\x00\xff\x00\xff\r\n\r\n", b"POST /v1/score HTTP/9.9\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", served.port)) as gone:
            gone.sendall(garbage)
    whole = json.dumps(GOOD).encode()
    with socket.create_connection(("127.0.0.1", served.port)) as unread:
        unread.sendall(head.replace(b"1000", str(len(whole)).encode()) + whole)  # asked, and left before the answer
    assert client.post("/v1/score", json=GOOD).status_code == 200
    slow.close()


numbers = st.one_of(st.integers(-3, 300), st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3))
values = st.recursive(numbers, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
bodies = st.dictionaries(
    st.sampled_from(["query", "items", "label_token_ids", "apply_softmax", "item_first", "model", "x"]),
    st.one_of(values, st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=3), min_size=1, max_size=3),
              st.lists(st.integers(0, 255), min_size=1, max_size=3), st.booleans()),
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(bodies.map(lambda body: json.dumps(GOOD | body).encode()), st.binary(max_size=200)))
def test_no_body_is_answered_by_500(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/score", content=body)
    assert answer.status_code in (200, 400), (body, answer.text)
    assert json.loads(answer.content)["object"] in ("scoring", "error")


def test_told_to_stop_it_finishes_what_it_has() -> None:
    server = Server("--backend", "noop")
    codes: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as own:
            while not stop.is_set():
                try:
                    codes.append(own.post("/v1/score", json=GOOD).status_code)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                    return  # not taken in any more

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(codes) < 50:
        assert server.process.poll() is None
    code, errors = server.stop()
    stop.set()
    for thread in threads:
        thread.join()
    assert code == 0 and errors == "" and set(codes) <= {200, 503}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "torch"], "'pytorch'"),
        (["--backend", "noop", "--max-waiting", "0"], "max_waiting=0"),
        (["--backend", "noop", "--host", "203.0.113.7"], "host='203.0.113.7'"),
    ],
)
def test_mistakes_end_with_2_and_one_line(options: list[str], words: str) -> None:
    done = call_cli("serve", "--model", MODEL, "--port", "0", *options)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_our_own_server_is_sound_by_the_audit(served: Server) -> None:
    done = call_cli("audit", "--url", served.url, "--model", MODEL, "--device", "cpu", "--seconds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("sglang server: SOUND") and " 16 " in last


def test_the_audit_of_a_server_of_other_weights_names_parity(served: Server) -> None:
    done = call_cli("audit", "--url", served.url, "--model", "random:tiny-llama", "--device", "cpu", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)
    assert report["verdict"] == "unsound"
    assert "parity" in [gate["name"] for gate in report["gates"] if gate["status"] == "failed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--backend"),
        (["--url", "http://127.0.0.1:1", "--backend", "jax"], "--url"),
        (["--url", "127.0.0.1"], "url='127.0.0.1'"),
        (["--url", "http://127.0.0.1:1", "--view", "portable"], "--view='portable'"),
        (["--backend", "jax", "--server", "vllm"], "--server='vllm'"),
        (["--backend", "jax", "--risky"], "--risky=True"),
        (["--url", "http://127.0.0.1:1", "--server", "triton"], "server='triton'"),
    ],
)
def test_audit_asks_one_scorer(options: list[str], words: str) -> None:
    done = call_cli("audit", *options, "--model", MODEL)
    assert done.returncode == 2 and words in done.stderr
