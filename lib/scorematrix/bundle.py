"""Pack a reproducible archive with checksums, for a machine without a network."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scorematrix.results.files import write_bytes

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("notebooks", "servers")
NEEDED = ("LICENSE", "Makefile", "README.md", "environment.yml", "lib", "notebooks", "outputs/README.md", "params",
          "pyproject.toml")  # fmt: skip
"""Needed on a VM to set up, measure and report; excludes tests and recorded runs."""
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Bundle:
    """A written archive."""

    path: Path
    n_files: int
    sha256: str


def write_bundle(path: Path, *, full: bool, root: Path = ROOT, outputs: Path | None = None) -> Bundle:
    """Pack the workspace. Unpack it with `tar -xzf`, check it with `sha256sum -c SHA256SUMS`.

    Args:
        full: add the tests, the reference runs, and the runs under `outputs` (without notebooks and servers' output).

    Raises:
        ValueError: if the workspace is not a git checkout, because git lists its files; or if one of them is missing.
    """
    tracked = _tracked(root)
    files = {name: root / name for name in tracked if full or any(_within(name, part) for part in NEEDED)}
    runs = (outputs or root / "outputs") / "runs"
    if full and runs.is_dir():
        for file in runs.rglob("*"):
            parts = file.relative_to(runs).parts
            hidden = any(part.startswith(".") or part in LEFT_OUT for part in parts)
            if file.is_file() and not hidden:
                files[f"outputs/runs/{'/'.join(parts)}"] = file
    return _write(path, {name: file.read_bytes() for name, file in files.items()}, _executable(files))


def _write(path: Path, contents: dict[str, bytes], executable: set[str]) -> Bundle:
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(contents.items()))
    buffer = io.BytesIO()
    # Without name, time and owner, equal files give equal bytes.
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in [(SUMS, sums.encode()), *sorted(contents.items())]:
            info = tarfile.TarInfo(f"scorematrix/{name}")
            info.size, info.mode = len(data), 0o755 if name in executable else 0o644
            archive.addfile(info, io.BytesIO(data))
    write_bytes(path, buffer.getvalue())
    return Bundle(path, len(contents), hashlib.sha256(buffer.getvalue()).hexdigest())


def _tracked(root: Path) -> list[str]:
    try:
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise ValueError(f"{root} is not a git checkout; make the bundle from a clone") from None
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if lost := [name for name in names if not (root / name).is_file()]:
        raise ValueError(f"{lost[0]} is tracked by git but missing; restore it with `git checkout {lost[0]}`")
    return names


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}/")


def _executable(files: dict[str, Path]) -> set[str]:
    return {name for name, file in files.items() if os.access(file, os.X_OK)}
