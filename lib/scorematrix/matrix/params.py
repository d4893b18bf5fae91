"""The params file: everything that a run depends on, checked before anything is written."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from scorematrix.readiness.targets import target
from scorematrix.results.schema import SIDES
from scorematrix.scoring.registry import backend_entry
from scorematrix.sealed import content_sha256

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
TargetName = Annotated[str, AfterValidator(lambda name: target(name).name)]


class _Section(BaseModel):
    # Strict: a quoted number or a 0/1 for a truth value is a mistake to be told of, not to be mended silently.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextWorkload(_Section):
    """Real text: a shipped data set or a JSON lines file, relative to the params file."""

    kind: Literal["text"]
    dataset: str
    n_queries: Positive | None = None
    items_per_query: Positive | None = None
    apply_softmax: bool = True


class CanonicalWorkload(_Section):
    """Synthetic tokens of a given shape."""

    kind: Literal["canonical"]
    query_tokens: Positive = 2000
    n_items: Positive = 500
    item_tokens: Positive | list[Positive] = 20
    label_ids: list[int] = [9454, 2753]
    n_queries: Positive = 1
    seed: int = 0
    apply_softmax: bool = True


class BackendChoice(_Section):
    """A backend and the views of it to measure."""

    backend: str
    views: list[str] = Field(["portable"], min_length=1)
    chunk_sizes: dict[str, Annotated[list[Positive], Field(min_length=1)]] = Field(
        {}, description="chunk sizes of a view, instead of the run's: for one that would not fit at the largest"
    )

    @model_validator(mode="after")
    def _known(self) -> BackendChoice:
        for view in self.views:
            backend_entry(self.backend, view)
        for view, sizes in self.chunk_sizes.items():
            if view not in self.views:
                raise ValueError(
                    f"chunk_sizes names view {view!r}, which is not among views={self.views}; add it there"
                )
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"chunk_sizes.{view}={sizes} holds a value twice; name each once")
        return self


class ComparisonChoice(_Section):
    """Where each framework runs. The same target on both sides compares frameworks, different ones systems."""

    jax: TargetName
    pytorch: TargetName


class Params(_Section):
    """One params file, whole."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    model: str
    model_seed: int = Field(0, description="seed of random:<shape> weights")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    reuse_prefix: Annotated[int, Field(ge=0, description="queries kept between calls by best_native views")] = 0
    workload: Annotated[TextWorkload | CanonicalWorkload, Field(discriminator="kind")]
    backends: list[BackendChoice] = Field(min_length=1)
    comparisons: list[ComparisonChoice] = Field(min_length=1)
    chunk_sizes: list[Positive] = Field(min_length=1)
    tuning_rounds: Positive = 1
    rounds: Annotated[int, Field(ge=2, le=99)] = 10
    warmup_passes: Positive = 1
    passes: Positive = 2
    seed: int
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.03
    threads: Literal["auto"] | Positive = "auto"
    call_timeout_seconds: Seconds = 120.0
    round_timeout_seconds: Seconds = 3600.0

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name, values in (("chunk_sizes", self.chunk_sizes), ("backends", [b.backend for b in self.backends])):
            if len(set(values)) != len(values):
                raise ValueError(f"{name}={values} holds a value twice; name each once")
        if not any(choice.backend in SIDES for choice in self.backends):
            raise ValueError("backends holds no jax or pytorch; there would be nothing to compare")
        return self

    def chunk_sizes_of(self, backend: str, view: str) -> list[int]:
        """The chunk sizes that a backend is measured at in a view."""
        own = {choice.backend: choice.chunk_sizes for choice in self.backends}
        return own.get(backend, {}).get(view, self.chunk_sizes)

    @property
    def sha256(self) -> str:
        """Hash of all values, defaults included: what a run's rounds must agree on."""
        return content_sha256(self.model_dump(mode="json"))

    @property
    def default_run_id(self) -> str:
        """The same params lead to the same run folder, so repeating a command continues it."""
        return f"{self.name}-{self.sha256[:8]}"


def load_params(path: Path | str, overrides: dict[str, Any] | None = None) -> Params:
    """Read and check a params file.

    Args:
        overrides: values by dotted key, put in before checking: `{"workload.n_queries": 2}`.

    Raises:
        ValueError: one line that names the file, the key, its value, and the remedy.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"params file {path} does not exist; see the folder params/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"params file {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"params file {path} holds {type(content).__name__}; write `key: value` lines")
    for key, value in (overrides or {}).items():
        _put(content, key.split("."), value)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"params file {path}: {_first_error(error)}") from None


def _put(content: dict, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise ValueError(f"--set {'.'.join(keys)}: {key} is not a section of the params file")
    content[keys[-1]] = value


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    loc = [part for part in first["loc"] if part not in ("text", "canonical")]
    where = ".".join(map(str, loc))
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[0] if len(loc) > 1 else None)
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}={first['input']!r} is an unknown key; {remedy}"
    if first["type"] == "missing":
        return f"{where} is missing; add it"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}={first['input']!r}: {message}" if where else message


def _known_keys(section: Any) -> list[str]:
    kinds: dict[Any, tuple[type[BaseModel], ...]] = {
        None: (Params,),
        "workload": (TextWorkload, CanonicalWorkload),
        "backends": (BackendChoice,),
        "comparisons": (ComparisonChoice,),
    }
    return [key for kind in kinds.get(section, ()) for key in kind.model_fields]
