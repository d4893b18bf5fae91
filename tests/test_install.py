"""lib/install.py: uv installs as pip is configured, and pip installs where uv cannot."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "lib" / "install.py"
LISTED = """\
:env:.default-timeout='180'
:env:.find-links='/wheels /more'
global.cert='/certificates.crt'
global.extra-index-url='https://name:secret@one.example/simple\\nhttps://two.example/simple'
global.find-links='/never'
global.index-url='https://mirror.example/simple'
install.constraint='/caps.txt'
freeze.timeout='10'
"""


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pips_settings_become_uvs(install: ModuleType) -> None:
    flags, variables = install.uv_settings(install.read_settings(LISTED))
    assert flags == ["--find-links", "/wheels", "--find-links", "/more", "--constraint", "/caps.txt"]
    assert variables == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://name:secret@one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/certificates.crt",
        "UV_HTTP_TIMEOUT": "180",
    }
    assert install.uv_settings({}) == ([], {})


@pytest.mark.parametrize(
    ("arguments", "codes", "installers"),
    [
        ([], {}, ["pip", "uv"]),
        ([], {"uv": 2}, ["pip", "uv", "pip"]),
        ([], {"pip": 1}, ["pip", "pip"]),
        (["--with", "none"], {}, ["pip"]),
    ],
    ids=["uv", "uv fails", "no uv", "none"],
)
def test_pip_installs_where_uv_cannot(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    codes: dict[str, int],
    installers: list[str],
) -> None:
    calls = []

    def call(command: list[str], **_: object) -> int:
        calls.append("uv" if command[0].endswith("uv") else "pip")
        return codes.get(calls[-1], 0)

    (tmp_path / "uv").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["install.py", *arguments])
    monkeypatch.setattr(install, "pip_settings", dict)
    monkeypatch.setattr(install.subprocess, "call", call)
    assert install.main() == codes.get("pip", 0)
    assert calls == installers
    assert "[3/3]" in capsys.readouterr().out
