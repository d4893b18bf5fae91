"""The sections of a params file, each checked on its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, model_validator

from scorematrix.readiness.targets import target
from scorematrix.results import Opposed, opposed
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.scoring.registry import backend_entry, sharded_loaders

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
TargetName = Annotated[str, AfterValidator(lambda name: target(name).name)]


class Section(BaseModel):
    # Strict: a quoted number or a 0/1 for a truth value is a mistake to be told of, not to be mended silently.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextWorkload(Section):
    """Real text: a shipped data set or a JSON lines file, relative to the params file."""

    kind: Literal["text"]
    dataset: str
    n_queries: Positive | None = None
    items_per_query: Positive | None = None
    apply_softmax: bool = True


class CanonicalWorkload(Section):
    """Synthetic tokens of a given shape."""

    kind: Literal["canonical"]
    query_tokens: Positive = 2000
    n_items: Positive = 500
    item_tokens: Positive | list[Positive] = 20
    label_ids: list[int] = [9454, 2753]
    n_queries: Positive = 1
    seed: int = 0
    apply_softmax: bool = True


class ServerChoice(Section):
    """Where a live server is, or how it is started; one of `url` and `launch`."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+/?$")] | None = Field(None, description="http://HOST:PORT")
    launch: str | None = Field(None, description="its command; {port} and the like are filled in")
    variables: dict[str, str] = Field({}, description="for its environment, when it is launched")
    served_model: str | None = Field(None, description="the model's name there; left out, the one that it tells")
    keeps_prefix: bool = Field(False, description="it keeps queries between calls, and the result is to say so")
    start_seconds: Seconds = 600.0
    restarts: Annotated[int, Field(ge=0, le=9)] = 2
    audit: bool = Field(True, description="ask it contract, parity, isolation and more in its tuning round")

    @model_validator(mode="after")
    def _one_place(self) -> ServerChoice:
        if (self.url is None) == (self.launch is None):
            raise ValueError("give either url or launch")
        if self.launch is not None:
            self.place.command(dict.fromkeys(PLACEHOLDERS, "x"))
        return self

    @property
    def place(self) -> ServerPlace:
        """The same, as the client takes it."""
        return ServerPlace(**{name: value for name, value in self if name != "audit"})


class BackendChoice(Section):
    """A backend and the views of it to measure."""

    backend: str = Field(description="one of ours, a name that a package registers, or module:attribute")
    views: list[str] = Field(["portable"], min_length=1)
    chunk_sizes: dict[str, Annotated[list[Positive], Field(min_length=1)]] = Field(
        {}, description="chunk sizes of a view, instead of the run's: for one that would not fit at the largest"
    )
    mesh: str | None = Field(None, description="data=2,model=4 say; None: the target's")
    server: ServerChoice | None = Field(None, description="of a live server: where it is, or how it is started")

    @model_validator(mode="before")
    @classmethod
    def _only_view(cls, content: Any) -> Any:
        """A scorer of one's own has one view, which need not be named."""
        if isinstance(content, dict) and "views" not in content and isinstance(name := content.get("backend"), str):
            entry = backend_entry(name)
            if entry.address is not None:
                return content | {"views": list(entry.views)}
        return content

    @model_validator(mode="after")
    def _known(self) -> BackendChoice:
        if backend_entry(self.backend).is_live != (self.server is not None):
            raise ValueError(
                f"backend {self.backend!r} is a live server; say where it is: server: {{url: http://HOST:PORT}}"
                if self.server is None
                else f"backend {self.backend!r} is no live server; leave out its section `server`"
            )
        for view in self.views:
            backend_entry(self.backend, view)
        if self.mesh is not None:
            mesh, sharded = Mesh.parse(self.mesh), backend_entry(self.backend).sharded
            sharded_loaders(self.backend, next((view for view in self.views if view in sharded), self.views[0]), mesh)
        for view, sizes in self.chunk_sizes.items():
            if view not in self.views:
                raise ValueError(
                    f"chunk_sizes names view {view!r}, which is not among views={self.views}; add it there"
                )
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"chunk_sizes.{view}={sizes} holds a value twice; name each once")
        return self


class LoadChoice(Section):
    """How live servers are measured under load, beside the rounds: see `scorematrix load`."""

    concurrency: list[Positive] = Field([1, 2, 4, 8], description="closed loop: so many callers at once, a point each")
    rates: list[Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="open loop: arrivals a second, a point each; left out, search the highest sustained",
    )
    seconds: Seconds = Field(12.0, description="of a point")
    warmup_seconds: Annotated[float, Field(ge=0)] = 2.0
    objective_ms: Seconds | None = Field(None, description="latency that counts as in time")
    mlperf_seconds: Seconds | None = Field(None, description="also MLPerf LoadGen's scenarios, so long each")


class ComparisonChoice(RootModel[dict[str, TargetName]]):
    """Two sides and where each runs: the frameworks `jax` and `pytorch`, or backends by their names.

    A framework stands for every backend of the run that represents it. The same target on both sides compares
    frameworks or backends, different ones systems.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _two(self) -> ComparisonChoice:
        if len(self.root) != 2:
            raise ValueError("name two sides and where each runs, {jax: cpu, pytorch: cpu} say, or two backends")
        return self

    @property
    def sides(self) -> tuple[Opposed, Opposed]:
        """Both sides in the order of every sentence and ratio."""
        return opposed(self.root)


class Price(Section):
    """What a target costs: a figure counts only with its source and its date."""

    usd_per_hour: Annotated[float, Field(gt=0)]
    source: str = Field(min_length=3)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
