"""Copy a run folder to any address that fsspec knows (gs://, s3://, memory://), so that rounds outlive a VM.

Measuring writes to a local disk, each file atomically. Changed files are uploaded after each round, one object at a
time. A run that continues on another machine first downloads the copy.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path, PurePosixPath

from scorematrix.results.files import write_bytes

FIXED = ("run.json", "workload.json")
"""Files that never change once a run has started. Rounds never change either."""
WAIT_SECONDS = 2.0
"""Before the second try; twice as long before the third."""
LEFT_OUT = ("drafts", "notebooks", "servers")


def is_address(run: str) -> bool:
    """Return whether a run is named by an address instead of a folder or an id."""
    return "://" in run


class Mirror:
    """The copy of one run folder.

    Attributes:
        trouble: why the last `copy` failed; None if it did not.

    Raises:
        ValueError: for an address whose kind fsspec does not know, or whose package is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        if not is_address(address):
            raise ValueError(
                f"mirror={address!r} is not an address; give one such as gs://bucket/folder or file:///path"
            )
        try:
            self._fs, root = fsspec.core.url_to_fs(address)
        except Exception as error:  # an unknown kind, a missing package, a login that fails
            raise ValueError(f"mirror={address!r} cannot be opened: {type(error).__name__}: {error}") from None
        self._root = PurePosixPath(root)
        self.address = address
        self.trouble: str | None = None
        self._known: dict[str, str] = {}

    def __str__(self) -> str:
        """Return the address without a user name or password."""
        return re.sub(r"(?<=://)[^/\s]+@", "", self.address)

    def copy(self, folder: Path, tries: int = 1) -> None:
        """Upload as `push` does, but keep an error in `trouble`; it is None after success."""
        for attempt in range(tries):
            time.sleep(attempt * WAIT_SECONDS)
            try:
                self.push(folder)
                self.trouble = None
                return
            except Exception as error:  # fsspec raises what the libraries below it raise, e.g. ftplib.error_perm
                self.trouble = self._words(error)

    def pull(self, folder: Path) -> int:
        """Download the files that the folder lacks; return how many.

        Raises:
            ValueError: if the copy cannot be read, or a file that never changes differs between folder and copy.
        """
        try:
            remote = self._remote()
        except Exception as error:
            raise ValueError(
                f"mirror={str(self)!r} cannot be read: {self._words(error)}; correct it, or leave it out"
            ) from None
        came = 0
        for name, data in remote.items():
            here = folder / name
            if not here.exists():
                write_bytes(here, data)
                came += 1
            elif _is_fixed(name) and here.read_bytes() != data:
                raise ValueError(
                    f"{folder.name}/{name} differs from the one at {self}; they belong to two "
                    "runs: choose another --run-id or another mirror"
                )
            self._known[name] = _digest(data)
        return came

    def push(self, folder: Path) -> int:
        """Upload the files that are new or changed since the last time; return how many."""
        went = 0
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or _is_left_out(name):
                continue
            data = path.read_bytes()
            if self._known.get(name) == (digest := _digest(data)):
                continue
            target = str(self._root / name)
            self._fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            with self._fs.transaction, self._fs.open(target, "wb") as file:
                file.write(data)
            self._known[name] = digest
            went += 1
        # A complete report has replaced the partial one, or the reverse.
        for name in [name for name in self._known if name.startswith("report") and not (folder / name).exists()]:
            self._fs.rm(str(self._root / name))
            del self._known[name]
        return went

    def _words(self, error: Exception) -> str:
        return f"{type(error).__name__}: {error}".replace(self.address, str(self))

    def _remote(self) -> dict[str, bytes]:
        self._fs.invalidate_cache()
        if not self._fs.exists(str(self._root)):
            return {}
        names = {
            path: PurePosixPath(path).relative_to(self._root).as_posix() for path in self._fs.find(str(self._root))
        }
        return {name: self._fs.cat_file(path) for path, name in names.items() if not _is_left_out(name)}


def _is_fixed(name: str) -> bool:
    return name in FIXED or name.startswith("rounds/")


def _is_left_out(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
