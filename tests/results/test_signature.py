"""A signed run: whoever changes, adds or removes a round afterwards, with correct checksums, is found out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scorematrix.results import RunStore
from tests.conftest import call_cli
from tests.factory import changed, write_valid_run

if shutil.which("ssh-keygen") is None:
    pytest.skip("no ssh-keygen to sign with; on Debian: apt-get install openssh-client", allow_module_level=True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    (tmp_path / "signers").write_text(f"lab@example.org {key.with_suffix('.pub').read_text()}")
    return key


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> RunStore:
    store = write_valid_run(tmp_path / "r")
    done = call_cli("sign", str(store.folder), "--key", str(key))
    assert done.returncode == 0, done.stderr
    return store


def test_a_signed_run_says_by_whom(signed: RunStore, tmp_path: Path) -> None:
    (signed.folder / "change_since_old.md").write_text("written anew at any time")
    done = call_cli("validate", str(signed.folder))
    assert done.returncode == 0 and "signed by key SHA256:" in done.stdout
    done = call_cli("validate", str(signed.folder), "--signers", str(tmp_path / "signers"))
    assert done.returncode == 0 and done.stdout.strip().endswith("signed by lab@example.org")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=signed.folder, check=True)


def faster(store: RunStore) -> None:
    store.write_round(changed(store.round("jax.portable.cpu.r01"), seconds=1.0))


CHANGES: dict[str, tuple[Callable[[RunStore], None], str]] = {
    "changed": (faster, "jax.portable.cpu.r01.json"),
    "removed": (lambda store: store.round_path("jax.portable.cpu.r01").unlink(), "jax.portable.cpu.r01.json"),
    "added": (lambda store: (store.folder / "rounds" / "x.txt").write_text("x"), "x.txt"),
    "list": (lambda store: (store.folder / "SHA256SUMS").unlink(), "is not as it was signed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_since_is_named(signed: RunStore, change: str) -> None:
    edit, words = CHANGES[change]
    edit(signed)
    done = call_cli("validate", str(signed.folder))
    assert done.returncode == 2 and words in done.stderr


def test_changed_with_its_list_is_not_as_signed(signed: RunStore, tmp_path: Path, key: Path) -> None:
    """The checksums are made anew, too; the signature is the old one."""
    signature = (signed.folder / "SHA256SUMS.sig").read_bytes()
    faster(signed)
    assert call_cli("sign", str(signed.folder), "--key", str(key)).returncode == 0
    (signed.folder / "SHA256SUMS.sig").write_bytes(signature)
    for more in ((), ("--signers", str(tmp_path / "signers"))):
        done = call_cli("validate", str(signed.folder), *more)
        assert done.returncode == 2 and "SHA256SUMS.sig is not valid" in done.stderr


def test_other_signers_and_unsigned_runs_are_refused(signed: RunStore, tmp_path: Path, key: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    assert call_cli("sign", str(signed.folder), "--key", str(other)).returncode == 0
    done = call_cli("validate", str(signed.folder), "--signers", str(tmp_path / "signers"))
    assert done.returncode == 2 and "not valid" in done.stderr
    unsigned = write_valid_run(tmp_path / "u")
    assert "signed" not in call_cli("validate", str(unsigned.folder)).stdout
    done = call_cli("validate", str(unsigned.folder), "--signers", str(tmp_path / "signers"))
    assert done.returncode == 2 and "not signed" in done.stderr
    done = call_cli("sign", str(unsigned.folder), "--key", str(tmp_path / "none"))
    assert done.returncode == 2 and "key=" in done.stderr and not (unsigned.folder / "SHA256SUMS").exists()
