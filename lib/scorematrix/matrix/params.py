"""The params file: everything that a run depends on. It is checked before anything is written."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from scorematrix.checksum import content_sha256
from scorematrix.matrix.choices import (
    BackendChoice,
    CanonicalWorkload,
    ComparisonChoice,
    LoadChoice,
    Positive,
    Price,
    Seconds,
    Section,
    ServerChoice,
    TargetName,
    TextWorkload,
)
from scorematrix.readiness.targets import target
from scorematrix.results.schema import MOST_ROUNDS, SIDES, Waiting, stands_for
from scorematrix.scoring.place import ServerPlace
from scorematrix.scoring.registry import REFERENCE, backend_entry
from scorematrix.text_files import read_yaml


class Params(Section):
    """A complete params file."""

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
    rounds: Annotated[int, Field(ge=2, le=MOST_ROUNDS)] = 10
    max_rounds: Annotated[int, Field(ge=2, le=MOST_ROUNDS)] | None = Field(
        None, description="most rounds: a verdict may fall at `rounds`, then at twice as many each time, up to these"
    )
    controls: bool = Field(True, description="measure a backend against itself, and against itself slowed by 5 %")
    warmup_passes: Positive = 1
    passes: Annotated[Positive, Field(description="fewest laps of every cell")] = 2
    time_budget_seconds: Seconds | None = Field(
        None,
        description="for all rounds; laps go on until ratios are precise or it is used up. By default: `passes` laps",
    )
    precise_to: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="standard error of a pair's ratio at which its laps end; by default a quarter of the margin"
    )
    disturbed_share: Annotated[float, Field(gt=0)] = Field(
        0.05, description="share of a core: turns during which other processes take more are repeated"
    )
    again_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.25, description="part of a group's share of the time budget for repeated turns and waits for a quiet machine"
    )
    seed: int
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.03
    reference: str = Field(
        default=REFERENCE[0], description="backend whose float32 scores count as exact, in the first of its views"
    )
    load: LoadChoice | None = Field(None, description="also measure live servers under load; by default not")
    threads: Literal["auto"] | Positive = "auto"
    waiting: Literal["tuned"] | Waiting = Field(
        "tuned", description="how OpenMP threads wait on a CPU: chosen by tuning rounds, or named here"
    )
    prices: dict[TargetName, Price] = Field({}, description="price of each target, by its name")
    call_timeout_seconds: Seconds = 120.0
    round_timeout_seconds: Seconds = 3600.0

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name, values in (("chunk_sizes", self.chunk_sizes), ("backends", [b.backend for b in self.backends])):
            if len(set(values)) != len(values):
                raise ValueError(f"{name}={values} has a duplicate; list each value once")
        if self.max_rounds is not None and self.max_rounds <= self.rounds:
            raise ValueError(f"max_rounds={self.max_rounds} is not above rounds={self.rounds}; raise it, or remove it")
        if self.places and self.dtype == "auto":
            raise ValueError(
                f"dtype='auto' does not work for a server ({', '.join(self.places)}), whose dtype is set when it is "
                "started; use float32 or bfloat16"
            )
        if self.load is not None and not self.places:
            raise ValueError("load needs a live server and backends lists none; remove load, or add a server")
        names = [choice.backend for choice in self.backends]
        sides = [side for comparison in self.comparisons for side, _ in comparison.sides]
        lacking = [side for side in sides if not any(stands_for(side, name) for name in names)]
        # A run of one framework alone is valid; a named backend that is missing is a mistake.
        if wrong := [side for side in lacking if side not in SIDES.values() or len(lacking) == len(sides)]:
            raise ValueError(
                f"comparisons names {wrong[0]!r}, but backends lists none that represents it; add one, or "
                f"compare two of {', '.join(names)}"
            )
        if backend_entry(self.reference).is_live:
            raise ValueError(f"reference={self.reference!r} is a live server; use an engine or a custom scorer")
        return self

    @property
    def places(self) -> dict[str, ServerPlace]:
        """Return where the live servers are, by backend."""
        return {choice.backend: choice.server for choice in self.backends if choice.server}

    def keeps_prefix(self, backend: str) -> bool:
        """Return whether a backend is a server that caches queries between calls."""
        place = self.places.get(backend)
        return place is not None and place.keeps_prefix

    @property
    def most_rounds(self) -> int:
        """Most confirmation rounds of a run."""
        return self.max_rounds or self.rounds

    def chunk_sizes_of(self, backend: str, view: str) -> list[int]:
        """Return the chunk sizes that a backend is measured at in a view."""
        by_backend = {choice.backend: choice.chunk_sizes for choice in self.backends}
        return by_backend.get(backend, {}).get(view, self.chunk_sizes)

    def mesh_of(self, backend: str, view: str, where: str) -> str | None:
        """Return the mesh that a backend's view is spread over on a target; None: one device."""
        if view not in backend_entry(backend).sharded:
            return None
        by_backend = {choice.backend: choice.mesh for choice in self.backends}
        return by_backend.get(backend) or target(where).mesh

    @property
    def all_chunk_sizes(self) -> list[int]:
        """Return every chunk size of any backend and view, ascending."""
        of_views = (sizes for choice in self.backends for sizes in choice.chunk_sizes.values())
        return sorted({size for sizes in [self.chunk_sizes, *of_views] for size in sizes})

    @property
    def sha256(self) -> str:
        """Hash of all values, defaults included; all rounds of a run must have the same one."""
        return content_sha256(self.model_dump(mode="json"))

    @property
    def default_run_id(self) -> str:
        """Name of the run folder. The same params give the same one, so repeating a command continues the run."""
        return f"{self.name}-{self.sha256[:8]}"


def load_params(path: Path | str, overrides: dict[str, Any] | None = None) -> Params:
    """Read and check a params file.

    Args:
        overrides: values by dotted key, set before checking: `{"workload.n_queries": 2}`.

    Raises:
        ValueError: one line that names the file, the key, its value, and the remedy.
    """
    path = Path(path)
    content = read_yaml(path, "params file", "params/")
    if not isinstance(content, dict):
        raise ValueError(f"params file {path} contains {type(content).__name__}; write `key: value` lines")
    for key, value in (overrides or {}).items():
        _put(content, key.split("."), value)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"params file {path}: {_first_error(error)}") from None


def read_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` texts into overrides for `load_params`; a value is read as YAML.

    Raises:
        ValueError: for a text of another form.
    """
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key or not equals:
            raise ValueError(f"--set={assignment!r} must be key=value, such as rounds=5")
        values[key] = yaml.safe_load(value)
    return values


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
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}={first['input']!r} is an unknown key; {remedy}"
    if first["type"] == "missing":
        return f"{where} is missing; add it"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "credential":
        return message
    return f"{where}={first['input']!r}: {message}" if where else message


def _known_keys(path: Sequence[Any]) -> list[str]:
    """Return the keys of the innermost section on the path."""
    kinds: dict[Any, tuple[type[BaseModel], ...]] = {
        None: (Params,),
        "workload": (TextWorkload, CanonicalWorkload),
        "backends": (BackendChoice,),
        "server": (ServerChoice,),
        "load": (LoadChoice,),
        "prices": (Price,),
    }
    section = next((part for part in reversed(path) if part in kinds), None)
    return [key for kind in kinds[section] for key in kind.model_fields]
