"""Text that a result may hold: nothing in it names an account, a host, a project, or opens a door."""

from __future__ import annotations

import getpass
import hashlib
import platform
import re
from collections.abc import Iterable
from pathlib import Path

SECRETS = (
    r"\bhf_[A-Za-z0-9]{8,}",  # Hugging Face
    r"\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}",
    r"\bglpat-[\w-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",  # Amazon
    r"\bya29\.[\w-]{8,}|\bAIza[\w-]{16,}",  # Google
    r"\bsk-[\w-]{16,}",
    r"\bxox[abprs]-[\w-]{8,}",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON web tokens
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user:password@ in an address
    r"(?i)(?<=bearer )[\w.~+/-]{8,}=*",
    r"(?i)(?<=[?&](?:key|sig)=)[^&\s]+",
    r"(?i)\b(?:[a-z0-9]+[_-])*(?:token|secret|password|passwd|api[_-]?key|credential)(?!s)(?:[_-][a-z0-9]+)*\s*[=:]\s*"
    r"(?!\[)[^\s,;]{6,}",
)
E_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
PROJECT = r"(?<=projects/)[a-z][a-z0-9-]{4,28}[a-z0-9]|(?<=--project=)\S+|(?<=--project )\S+"
REDACTED = "[redacted]"
WORDS = ("localhost", "root", "user", "jovyan", "runner", "ubuntu", "python", "pytorch", "jupyter", "scorematrix")
"""Names of machines and accounts that everybody has, or that a result is full of in another meaning."""


def redacted(text: str) -> str:
    """The text without what gives somebody away.

    Credentials, e-mail addresses and cloud projects go; this machine's name and this account's become a short hash, by
    which rounds of one machine can still be told to be of one; the home folder becomes `~`.
    """
    for pattern in SECRETS:
        text = re.sub(pattern, REDACTED, text, flags=re.DOTALL)
    text = re.sub(E_MAIL, REDACTED, text)
    text = re.sub(PROJECT, REDACTED, text)
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    text = re.sub(r"(/home/|/Users/)[^/\s'\"]+", r"\1" + REDACTED, text)
    for kind, name in _names():
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", _hashed(kind, name), text)
    return text


def _names() -> Iterable[tuple[str, str]]:
    """This machine's name and this account's, where they are names and not words that anything is called by."""
    host = platform.node()
    yield from (("host", name) for name in {host, host.split(".")[0]} if len(name) > 3 and name not in WORDS)
    try:
        account = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return
    if len(account) > 3 and account not in WORDS:
        yield "account", account


def _hashed(kind: str, name: str) -> str:
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
