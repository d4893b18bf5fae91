"""Redact text for results, so that it reveals no account, host, project or credential."""

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
    r"(?<=://)(?!(?:\$\{\w+\}:?)+@)[^/\s'\"]+(?=@)",  # user:password@ or token@ in an address, but not ${NAME}@
    r"(?i)(?<![\w-])--?(?:[a-z0-9]+[_-])*(?:token|secret|password|key)(?:\s+|=)[^\s-]\S*",  # --api-key VALUE
    r"(?<![\w/${}])[\w.+-]+:[^\s@/'\"]+(?=@[\w-])",  # the same without a scheme
    r"(?i)(?<=bearer )[\w.~+/-]{8,}=*",
    r"(?i)(?<=[?&](?:key|sig)=)[^&\s]+",
    r"(?i)\b(?:[a-z0-9]+[_-])*(?:token|secret|password|passwd|api[_-]?key|credential)(?!s)(?:[_-][a-z0-9]+)*\s*[=:]\s*"
    r"(?!\[)[^\s,;]{6,}",
)
E_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
PROJECT = r"(?<=projects/)[a-z][a-z0-9-]{4,28}[a-z0-9]|(?<=--project=)\S+|(?<=--project )\S+"
REDACTED = "[redacted]"
WORKSPACE = Path(__file__).parents[2]
COMMON = ("localhost", "root", "user", "jovyan", "runner", "ubuntu", "python", "pytorch", "jupyter", "scorematrix")
"""Names of machines and accounts that identify nobody, or that results use in another meaning."""


RANDOM_WORD = r"\b(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])\w{24,}"
"""A word that nobody would write: likely a key. Compilers name kernels like this, cloud tools do not."""


def without_credentials(text: str) -> str:
    """Return the text without credentials; names and folders stay, as for the terminal of whoever typed them."""
    for pattern in SECRETS:
        text = re.sub(pattern, REDACTED, text, flags=re.DOTALL)
    return text


def has_credential(text: str) -> bool:
    """Return whether the text contains a credential; `${NAME}` in an address is none."""
    return without_credentials(text) != text or re.search(RANDOM_WORD, text) is not None


def printable(text: str) -> str:
    """Return the text without control characters, which could recolour, retitle or rewrite a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text.replace("\r", "\n"))


def redacted_output(text: str) -> str:
    """Redact what a cloud tool printed, which may contain keys of any form."""
    return re.sub(RANDOM_WORD, REDACTED, redacted(text))


def redacted(text: str) -> str:
    """Return the text without private data.

    Credentials, e-mail addresses and cloud projects are removed. The names of this machine and account become a short
    hash, which still shows that rounds come from one machine. Paths in the workspace become relative to it, the home
    folder becomes `~`.
    """
    text = without_credentials(text)
    text = re.sub(E_MAIL, REDACTED, text)
    text = re.sub(PROJECT, REDACTED, text)
    text = re.sub(rf"{re.escape(str(WORKSPACE))}(?:/|(?![\w.-]))", "", text)
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    text = re.sub(r"(/home/|/Users/)[^/\s'\"]+", r"\1" + REDACTED, text)
    for kind, name in _names():
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", _hashed(kind, name), text)
    return text


def _names() -> Iterable[tuple[str, str]]:
    """Yield the names of this machine and account, unless they are short or common."""
    host = platform.node()
    yield from (("host", name) for name in {host, host.split(".")[0]} if len(name) > 3 and name not in COMMON)
    try:
        account = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return
    if len(account) > 3 and account not in COMMON:
        yield "account", account


def _hashed(kind: str, name: str) -> str:
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
