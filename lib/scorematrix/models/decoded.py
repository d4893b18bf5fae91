"""Decode a GGUF file once: parsing and dequantising take seconds, and every round is a fresh process.

The result is our weight tree as one safetensors file in the cache folder, with config and tokenizer in its metadata.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from scorematrix.models.cache import cache_folder
from scorematrix.models.config import DecoderConfig
from scorematrix.models.gguf_reader import GGUFFile, read_gguf_config, read_gguf_weights
from scorematrix.models.weights import DecoderWeights
from scorematrix.workload.tokenizer import TextTokenizer

VERSION = 1
"""Increased whenever the reader or the tree changes, so that no stale tree is ever used."""


def decoded_gguf(path: Path) -> Path:
    """Return the decoded file of a GGUF file, decoding it if needed; its name contains the source's SHA-256."""
    status = path.stat()
    digest = _digest(path, status.st_size, status.st_mtime_ns)
    decoded = cache_folder() / "decoded" / f"{digest[:32]}.v{VERSION}.safetensors"
    if not decoded.is_file():
        _decode(path, decoded)
    return decoded


@functools.cache
def _digest(path: Path, n_bytes: int, changed_ns: int) -> str:
    """Return the SHA-256, cached while the file is unchanged because a run needs it for every cell."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_decoded_description(path: Path) -> tuple[DecoderConfig, TextTokenizer]:
    """Return config and tokenizer, without the weights."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata()
    return DecoderConfig(**json.loads(metadata["config"])), TextTokenizer.from_json(metadata["tokenizer"])


def read_decoded_weights(path: Path) -> DecoderWeights[np.ndarray]:
    """Return the tree, which was checked when it was decoded."""
    from safetensors.numpy import load_file

    return DecoderWeights.from_leaves(load_file(path))


def _decode(source: Path, target: Path) -> None:
    from safetensors.numpy import save_file

    file = GGUFFile(source)
    config = read_gguf_config(file)  # GGUF models with rope scaling are refused, so the config is flat
    weights = read_gguf_weights(file, config)
    metadata = {"config": json.dumps(dataclasses.asdict(config)), "tokenizer": TextTokenizer.from_gguf(file).to_json()}
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".decoding-")
    os.close(handle)
    try:
        save_file({name: np.ascontiguousarray(a) for name, a in weights.named_leaves()}, temporary, metadata)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
