"""Find a model by name, and read its config, tokenizer and weights."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorematrix.models.cache import ModelUnavailable
from scorematrix.models.config import DecoderConfig
from scorematrix.models.decoded import decoded_gguf, read_decoded_description, read_decoded_weights
from scorematrix.models.embedded import embedded_path, fetch_embedded, is_present
from scorematrix.models.random_weights import RANDOM_SHAPES, random_weights
from scorematrix.models.safetensors_reader import read_hf_config, read_hf_weights
from scorematrix.models.weights import DecoderWeights
from scorematrix.workload.tokenizer import TextTokenizer

EMBEDDED = "smollm2-135m"
HUB_FILES = ["config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json"]


@dataclass(frozen=True)
class ModelDescription:
    """A model without its weights: what a workload needs to know."""

    name: str
    source: str
    config: DecoderConfig
    tokenizer: TextTokenizer | None


@dataclass(frozen=True)
class Model(ModelDescription):
    """A model ready for a backend."""

    weights: DecoderWeights[np.ndarray]

    @property
    def key(self) -> str:
        """Cache key. It includes config and architecture: constants such as the rotary base are not in the weights."""
        constants = repr((self.config, self.config.family))
        return f"{self.weights.sha256[:16]}.{hashlib.sha256(constants.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class CatalogueEntry:
    """A row of `scorematrix models`."""

    name: str
    origin: str
    params: str
    license: str | None
    present: bool


def list_models() -> list[CatalogueEntry]:
    """List the named models and the forms of other names: hub id, folder, GGUF file."""
    rows = [CatalogueEntry(EMBEDDED, f"embedded: {embedded_path().name}", "135M", "Apache-2.0", is_present())]
    for shape, config in RANDOM_SHAPES.items():
        size = f"{config.n_params / 1e6:,.1f}M"
        rows.append(CatalogueEntry(f"random:{shape}", f"seeded weights, {config.architecture}", size, None, True))
    rows.append(CatalogueEntry("org/name", "Hugging Face hub, safetensors; org/name@revision", "any", None, False))
    rows.append(CatalogueEntry("./folder or file.gguf", "a local checkpoint", "any", None, True))
    return rows


def locate(name: str) -> str:
    """Check that a name leads to a model, without reading or downloading weights; return its source.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
        ModelUnavailable: for a known one that is not available here.
    """
    known = [EMBEDDED, *(f"random:{shape}" for shape in RANDOM_SHAPES)]
    if name in known:
        return "seeded random weights" if name != EMBEDDED else f"embedded GGUF, {embedded_path()}"
    path = Path(name).expanduser()
    if path.exists():
        return f"local {'folder' if path.is_dir() else 'file'} {path}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, a hub id, a folder, a .gguf file"
    if name.startswith("random:") or name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith(".gguf"):
        raise ValueError(f"model={name!r} is neither in the catalogue nor a file or folder; {hint}")
    return f"Hugging Face hub, {name}"


def fetch(name: str) -> Path:
    """Fetch a model's files to this machine and return their path.

    Raises:
        ValueError: for an unknown name, or one that has no files.
    """
    locate(name)
    if name == EMBEDDED:
        return fetch_embedded()
    if name.startswith("random:"):
        raise ValueError(f"model={name!r} is made from a seed; there is nothing to fetch")
    path = Path(name).expanduser()
    return path if path.exists() else _fetch_hub(name)


def read_description(name: str) -> ModelDescription:
    """Return config and tokenizer of a model, without its weights."""
    if name.startswith("random:"):
        return ModelDescription(name, locate(name), RANDOM_SHAPES[_known_shape(name)], None)
    path = fetch(name)
    if path.is_file():
        return ModelDescription(name, locate(name), *read_decoded_description(decoded_gguf(path)))
    return ModelDescription(name, locate(name), read_hf_config(path), TextTokenizer.from_folder(path))


def load_model(name: str, *, seed: int = 0) -> Model:
    """Read a model: config, tokenizer and weights.

    Args:
        seed: of `random:<shape>` weights; other models ignore it.

    Raises:
        ValueError: naming what is unknown, unsupported or damaged.
        ModelUnavailable: if it is not available here.
    """
    if name.startswith("random:"):
        config = RANDOM_SHAPES[_known_shape(name)]
        return Model(name, f"seed {seed}", config, None, random_weights(config, seed))
    path = fetch(name)
    if path.is_file():
        decoded = decoded_gguf(path)
        config, tokenizer = read_decoded_description(decoded)
        return Model(name, locate(name), config, tokenizer, read_decoded_weights(decoded))
    config = read_hf_config(path)
    return Model(name, locate(name), config, TextTokenizer.from_folder(path), read_hf_weights(path, config))


def _known_shape(name: str) -> str:
    locate(name)
    return name.removeprefix("random:")


def _fetch_hub(name: str) -> Path:
    import huggingface_hub

    repo, _, revision = name.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision or None, allow_patterns=HUB_FILES))
    except Exception as error:  # many kinds: no network, unknown or gated repository, proxy
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(
            f"model={name!r} could not be fetched from the Hugging Face hub ({reason[:200]}); "
            "check name and network, or give a local folder"
        ) from None
