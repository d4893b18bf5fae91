"""Sign a run with an SSH key, and verify whose key it was: `ssh-keygen -Y` over the checksums of its files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from scorematrix.results.files import write_text
from scorematrix.results.mirror import LEFT_OUT

SUMS, SIGNATURE, NAMESPACE = "SHA256SUMS", "SHA256SUMS.sig", "scorematrix-run"
COMPUTED = ("comparison.json", "report", "change_since", SUMS)
"""How files begin that are computed from the signed ones."""


def sign_run(folder: Path, key: Path) -> int:
    """Sign everything that verdicts are computed from; return the number of files.

    `sha256sum -c SHA256SUMS` checks the files without this library.

    Raises:
        ValueError: if ssh-keygen is missing or refuses the key.
    """
    sums = _sums(folder)
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    (folder / SIGNATURE).unlink(missing_ok=True)  # ssh-keygen would ask
    try:
        _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, str(folder / SUMS))
    except ValueError as error:
        (folder / SUMS).unlink()
        raise ValueError(f"key={str(key)!r} cannot sign {folder.name}: {error}") from None
    return len(sums)


def signer_of(folder: Path, signers: Path | None = None) -> str | None:
    """Return whose signature a run has, None if it has none.

    Args:
        signers: a file in ssh's ALLOWED SIGNERS format. Without one, the key's fingerprint is returned, which anybody
            could have made.

    Raises:
        ValueError: if a signed file was changed, added or removed, or the signature or its signer is not valid.
    """
    if not (folder / SIGNATURE).exists():
        return None
    signed = (folder / SUMS).read_bytes() if (folder / SUMS).is_file() else b""
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in signed.decode().splitlines())}
    found = _sums(folder)
    if wrong := sorted(name for name in recorded.keys() | found if recorded.get(name) != found.get(name)):
        raise ValueError(
            f"{folder.name}/{wrong[0]} is not as it was signed; take the run from its source, or sign it again"
        )
    verify = ["-n", NAMESPACE, "-s", str(folder / SIGNATURE)]
    try:
        if signers is None:
            said = _ssh_keygen("check-novalidate", *verify, data=signed)
            return "key " + next(word for word in said.split() if word.startswith("SHA256:"))
        found_names = _ssh_keygen("find-principals", "-s", str(folder / SIGNATURE), "-f", str(signers))
        name = found_names.splitlines()[0]
        _ssh_keygen("verify", "-f", str(signers), "-I", name, *verify, data=signed)
        return name
    except ValueError as error:
        raise ValueError(f"{folder.name}/{SIGNATURE} is not valid: {error}") from None


def _sums(folder: Path) -> dict[str, str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if name.split("/")[0] not in LEFT_OUT and not name.startswith((*COMPUTED, "."))
    }


def _ssh_keygen(action: str, *arguments: str, data: bytes = b"") -> str:
    if shutil.which("ssh-keygen") is None:
        raise ValueError("ssh-keygen is not on PATH; install OpenSSH 8.2 or newer")
    done = subprocess.run(["ssh-keygen", "-Y", action, *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(" ".join((done.stderr or done.stdout).decode(errors="replace").split()) or "refused")
    return done.stdout.decode()
