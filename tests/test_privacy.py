"""Nothing that is kept of a run names somebody or opens a door."""

from __future__ import annotations

import getpass
import json
import platform
from base64 import b64encode
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import yaml

from scorematrix import privacy
from scorematrix.notebooks import NotebookFailed, execute_notebook
from scorematrix.privacy import REDACTED, redacted
from tests.conftest import FIXTURES, ROOT, call_cli, report_of, run_cli
from tests.servers.serve.posting import posting

SECRETS = {
    "Hugging Face": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
    "GitHub": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "Amazon": "AKIAIOSFODNN7EXAMPLE",
    "Google": "ya29.a0AfH6SMBxxxxxxxxxxxx",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123",
    "e-mail": "jane.doe+x@example.co.uk",
    "password": "PASSWORD=hunter2hunter2",
    "address": "alice:s3cretpass",
    "project": "my-secret-project-42",
}
TEXTS = {
    "Hugging Face": "401 for token {}",
    "GitHub": "git clone failed: {}",
    "Amazon": "key {} is wrong",
    "Google": "Authorization: {}",
    "web token": "got {}",
    "e-mail": "account {} may not",
    "password": "env {}",
    "address": "https://{}@host/path",
    "project": "Quota in projects/{}/regions/x",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_go(kind: str) -> None:
    text = redacted(TEXTS[kind].format(SECRETS[kind]))
    assert SECRETS[kind] not in text and REDACTED in text
    assert redacted(text) == text, "once is enough"


@pytest.mark.parametrize(
    "text",
    [
        "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.",
        "--xla_cpu_x=1 --xla_force_host_platform_device_count=8",
        "a call of 64 items took longer than call_timeout_seconds=60",
        "RESOURCE_EXHAUSTED: Out of memory allocating 123456 bytes",
        "id 49152 in items_ids[3] is beyond the vocabulary of 49152 token ids",
        "n_tokens: 12, apply_softmax=True, task-0123456789abcdef0123",
        "sha256 9e107d9d372bb6826bd81d3542a419d6, jax 0.10.2, commit 949edcc",
    ],
)
def test_plain_errors_stay(text: str) -> None:
    assert redacted(text) == text


def test_names_of_this_machine_and_account_become_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "gpu-box-7.corp.example.com")
    monkeypatch.setattr(getpass, "getuser", lambda: "jdoe42")
    monkeypatch.setattr(privacy.Path, "home", lambda: Path("/data/people/jdoe42"))
    text = redacted("no such file: /data/people/jdoe42/x on gpu-box-7.corp.example.com (gpu-box-7) by jdoe42")
    assert "jdoe42" not in text and "gpu-box-7" not in text and "~/x" in text
    assert text.count("host-") == 2 and text.count("account-") == 1
    assert redacted("/home/jane/run and /Users/joe/run") == f"/home/{REDACTED}/run and /Users/{REDACTED}/run"


def test_paths_in_the_workspace_become_relative() -> None:
    text = redacted(f"{ROOT}/lib/x.py, {ROOT}/ and '{ROOT}', but {ROOT}-old/x and {ROOT}space")
    assert text == f"lib/x.py,  and '', but {redacted(f'{ROOT}-old/x')} and {redacted(f'{ROOT}space')}"
    assert str(ROOT) not in redacted(f"{ROOT}/x")


@pytest.mark.parametrize("name", ["pytorch", "root", "tpu"])
def test_names_that_are_words_are_left(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: name)
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    assert redacted(f"{name} runs") == f"{name} runs"


@pytest.mark.slow
def test_the_kept_copy_of_a_notebook_names_nobody(tmp_path: Path) -> None:
    """A parameter that holds secrets, and an error that quotes it."""
    private = [SECRETS["Hugging Face"], SECRETS["e-mail"], platform.node()]
    output = tmp_path / "copy.ipynb"
    with pytest.raises(NotebookFailed, match="ValueError") as failed:
        execute_notebook("03_report", output, {"run_dir": "/home/jane/" + "/".join(private)}, 120)
    assert SECRETS["e-mail"] in str(failed.value), "the error quotes it, or the copy would prove nothing"
    kept = output.read_text()
    assert "papermill-error-cell-tag" in kept and f"/home/{REDACTED}" in kept
    assert [word for word in (*private, "jane") if word in kept and len(word) > 3] == []


@pytest.mark.slow
@pytest.mark.chaos
def test_nothing_private_is_in_any_file_of_a_real_run(tmp_path: Path) -> None:
    """A run in which much goes wrong, with secrets in the environment and in the errors."""
    home = tmp_path / "home-of-jane"
    (home / ".cache").mkdir(parents=True)
    # XLA refuses unknown flags and quotes them; numpy's rounds go well.
    flags = f"--xla_nonsense={SECRETS['Hugging Face']} --xla_dump_to={home}/dump"
    secrets = {
        "HF_TOKEN": SECRETS["Hugging Face"],
        "AWS_SECRET_ACCESS_KEY": "abcdefghijklmnop",
        "OMP_PLACES": SECRETS["e-mail"],
    }
    done = run_cli(
        "run", str(ROOT / "tests" / "fixtures" / "numpy.yaml"), "--run-id", "r", "--report",
        "--set", "backends=[{backend: jax, views: [portable]}, {backend: numpy}]",
        "--set", "comparisons=[{jax: cpu, numpy: cpu}, {jax: tpu-v6e-1, numpy: gpu-g4}]", cwd=home,
        HOME=str(home), MPLCONFIGDIR=matplotlib.get_configdir(), XLA_FLAGS=flags, JAX_TEST=SECRETS["GitHub"], **secrets,
    )  # fmt: skip
    assert report_of(home / "outputs" / "runs" / "r"), done.stdout + done.stderr
    files = [path for path in (home / "outputs").rglob("*") if path.is_file()]
    assert len(files) > 20
    private = [*SECRETS.values(), "abcdefghijklmnop", str(home), str(ROOT), platform.node()]
    for path in files:
        text = path.read_text("utf-8")
        for word in private:
            assert word not in text or len(word) < 4, f"{path.relative_to(home)} holds {word!r}"


CANARY = "Zx9canaryQw7"
PARAMS = """
name: canary
model: random:tiny-llama
dtype: float32
workload: {{kind: canonical, query_tokens: 24, n_items: 4, item_tokens: 3, label_ids: [100, 200], seed: 3}}
backends:
  - {{backend: numpy}}
  - {{backend: sglang, views: [server], server: {server}}}
comparisons:
  - {{numpy: cpu, sglang: cpu}}
  - {{numpy: tpu-v6e-1, sglang: cpu}}
reference: numpy-per-item
chunk_sizes: [4]
tuning_rounds: 1
rounds: 2
controls: false
seed: 7
"""


@pytest.mark.parametrize(
    ("server", "where"),
    [
        (f"{{url: 'http://jane:{CANARY}@127.0.0.1:9'}}", "server.url"),
        (f"{{url: 'http://{CANARY}@127.0.0.1:9'}}", "server.url"),
        (f"{{launch: 'serve --port {{port}} --api-key {CANARY}'}}", "server.launch"),
        (f"{{launch: 'API_KEY={CANARY} serve --port {{port}}'}}", "server.launch"),
        (f"{{launch: 'serve --port {{port}} --x {CANARY * 3}'}}", "server.launch"),
        (f"{{launch: 'serve --port {{port}}', variables: {{HF_TOKEN: {CANARY}}}}}", "server.variables.HF_TOKEN"),
        (f"{{launch: 'serve --port {{port}}', variables: {{A: '{CANARY * 3}'}}}}", "server.variables.A"),
    ],
)
def test_params_with_a_credential_are_refused(server: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(PARAMS.format(server=server))
    done = call_cli("run", str(path), cwd=tmp_path)
    assert done.returncode == 2 and where in done.stderr and "export" in done.stderr
    assert CANARY not in done.stderr + done.stdout and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "--model", "random:tiny-llama", "--url", f"http://jane:{CANARY}@127.0.0.1:9"),
        ("load", "--seconds", "0.1", "--warmup", "0", f"http://jane:{CANARY}@127.0.0.1:9"),
        ("run", str(FIXTURES / "numpy.yaml"), "--mirror", f"ftp://jane:{CANARY}@127.0.0.1:9/x"),
        ("run", str(FIXTURES / "numpy.yaml"), "--mirror", f"jane:{CANARY}@not-an-address"),
        ("report", f"ftp://jane:{CANARY}@127.0.0.1:9/x"),
    ],
)
def test_passwords_of_addresses_are_not_printed(command: tuple[str, ...], tmp_path: Path) -> None:
    done = call_cli(*command, cwd=tmp_path)
    assert done.returncode in (2, 4) and CANARY not in done.stderr + done.stdout, done.stderr + done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here", "report_here")
def test_a_canary_is_in_no_file_and_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the environment, in an address, in an attempt's output, and in everything that a server says."""
    heads: list[str | None] = []
    said = {"model": f"hf_{CANARY}", "version": f"sk-{CANARY}{CANARY}", "model_path": f"https://jane:{CANARY}@hub/m",
            "device": "\x1b]0;title\x07\x1b[31m cpu"}  # fmt: skip

    def answer(_: bytes, handler: Any) -> tuple[int, bytes]:
        heads.append(handler.headers["Authorization"])
        return 500, json.dumps({"message": f"token={CANARY} \x1b[2J\x1b[31mred"}).encode()

    attempts = tmp_path / "attempts.yaml"
    text = f"RESOURCE_EXHAUSTED key {CANARY * 3}, Authorization: Bearer {CANARY}"
    tried = {"at": date(2026, 11, 1), "zone": "us-east5-b", "machine_type": "ct6e-standard-1t", "text": text}
    attempts.write_text(yaml.safe_dump({"targets": {"tpu-v6e-1": [tried]}}))
    for name in ("JAX_MYTOKEN", "TORCH_LICENSE", "CUDA_X", "OMP_SECRET_PLACES", "MKL_KEY", "GATEWAY_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("GATEWAY_USER", "jane")
    path = tmp_path / "p.yaml"
    with posting(answer, about=said) as url:
        address = url.replace("http://", "http://${GATEWAY_USER}:${GATEWAY_PASSWORD}@")
        path.write_text(PARAMS.format(server=f"{{url: '{address}'}}"))
        done = call_cli("run", str(path), "--report", "--run-id", "r", "--readiness", str(attempts), cwd=tmp_path)
    print(done.stdout, done.stderr)
    assert heads and set(heads) == {f"Basic {b64encode(f'jane:{CANARY}'.encode()).decode()}"}
    files = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert len(files) > 10, done.stdout + done.stderr
    texts = {str(path.relative_to(tmp_path)): path.read_text("utf-8") for path in files}
    texts |= {"stdout": done.stdout, "stderr": done.stderr}
    for name, text in texts.items():
        assert CANARY not in text, f"{name}: {text[max(0, text.find(CANARY) - 200) :][:300]}"
        assert "\x1b" not in text and "\x07" not in text, name
    assert "${GATEWAY_PASSWORD}" in texts["outputs/runs/r/run.json"]
