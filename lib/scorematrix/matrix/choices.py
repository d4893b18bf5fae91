"""The sections of a params file, each with its checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from scorematrix.privacy import has_credential
from scorematrix.readiness.targets import target
from scorematrix.results import Opposed, opposed
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.scoring.registry import backend_entry, sharded_loaders

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
TargetName = Annotated[str, AfterValidator(lambda name: target(name).name)]


class Section(BaseModel):
    # Strict: a quoted number, or 0/1 for a truth value, is an error to report, not to convert silently.
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


class ServerChoice(ServerPlace):
    """Where a live server is (`url`), or how to start it (`launch`); exactly one of them."""

    audit: bool = Field(True, description="audit contract, parity, isolation and more in its tuning round")

    @model_validator(mode="before")
    @classmethod
    def _no_credential(cls, content: Any) -> Any:
        """Refuse secrets, because params stand in every result. The message does not repeat them."""
        if not isinstance(content, dict):
            return content
        variables = content.get("variables")
        texts = {"url": content.get("url"), "launch": content.get("launch")} | {
            f"variables.{name}": f"{name}={value}"
            for name, value in (variables.items() if isinstance(variables, dict) else ())
        }
        if held := [name for name, text in texts.items() if isinstance(text, str) and has_credential(text)]:
            remedy = (
                "write http://${NAME}:${OTHER}@HOST:PORT and export these environment variables"
                if held[0] == "url"
                else "export it as an environment variable instead: a launched server inherits all of them"
            )
            raise PydanticCustomError(
                "credential", "server.{held} contains a credential; {remedy}", {"held": held[0], "remedy": remedy}
            )
        return content

    @model_validator(mode="after")
    def _one_place(self) -> ServerChoice:
        if (self.url is None) == (self.launch is None):
            raise ValueError("give either url or launch")
        if self.launch is not None:
            self.command(dict.fromkeys(PLACEHOLDERS, "x"))
        return self


class BackendChoice(Section):
    """A backend and which of its views to measure."""

    backend: str = Field(description="one of ours, a name that a package registers, or module:attribute")
    views: list[str] = Field(["portable"], min_length=1)
    chunk_sizes: dict[str, Annotated[list[Positive], Field(min_length=1)]] = Field(
        {}, description="chunk sizes of a view, instead of the run's; for a view that does not fit at the largest"
    )
    mesh: str | None = Field(None, description="such as data=2,model=4; None: the target's")
    server: ServerChoice | None = Field(None, description="for a live server: where it is, or how to start it")

    @model_validator(mode="before")
    @classmethod
    def _only_view(cls, content: Any) -> Any:
        """Fill in the view of a custom scorer, which has only one."""
        if isinstance(content, dict) and "views" not in content and isinstance(name := content.get("backend"), str):
            entry = backend_entry(name)
            if entry.address is not None:
                return content | {"views": list(entry.views)}
        return content

    @model_validator(mode="after")
    def _known(self) -> BackendChoice:
        if backend_entry(self.backend).is_live != (self.server is not None):
            raise ValueError(
                f"backend {self.backend!r} is a live server; add its address: server: {{url: http://HOST:PORT}}"
                if self.server is None
                else f"backend {self.backend!r} is not a live server; remove its section `server`"
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
                raise ValueError(f"chunk_sizes.{view}={sizes} has a duplicate; list each value once")
        return self


class LoadChoice(Section):
    """How to measure live servers under load, in addition to the rounds; see `scorematrix load`."""

    concurrency: list[Positive] = Field([1, 2, 4, 8], description="closed loop: concurrent callers, one point each")
    rates: list[Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="open loop: arrivals per second, one point each; by default, search for the highest sustained",
    )
    seconds: Seconds = Field(12.0, description="duration of a point")
    warmup_seconds: Annotated[float, Field(ge=0)] = 2.0
    objective_ms: Seconds | None = Field(None, description="highest latency that counts as in time")


class ComparisonChoice(RootModel[dict[str, TargetName]]):
    """Two sides and the target of each: the frameworks `jax` and `pytorch`, or backends by name.

    A framework includes every backend of the run that represents it. The same target on both sides compares
    frameworks or backends; different targets compare systems.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _two(self) -> ComparisonChoice:
        if len(self.root) != 2:
            raise ValueError("name two sides and their targets, such as {jax: cpu, pytorch: cpu}, or two backends")
        return self

    @property
    def sides(self) -> tuple[Opposed, Opposed]:
        """Return both sides in the order of every sentence and ratio."""
        return opposed(self.root)


class Price(Section):
    """Price of a target; it counts only with a source and a date."""

    usd_per_hour: Annotated[float, Field(gt=0)]
    source: str = Field(min_length=3)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
