"""A live server from the params: reached at its address or launched here, queried, restarted when it dies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from scorematrix.measure.process import SPINNING
from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import Model
from scorematrix.scoring.contract import BackendInfo, CompileEvent, DType, Scores
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.scoring.registry import PEERS
from scorematrix.servers.client.about import About, ask_about
from scorematrix.servers.client.answers import ServerFault
from scorematrix.servers.client.client import ScoreClient
from scorematrix.servers.client.launched import LaunchedServer, ServerNotStarted, free_port
from scorematrix.workload.request import ScoreRequest

DYING_SECONDS = 3.0
"""How long a dying process may take to end after a failed call."""


class LiveBackend:
    """One server behind the Backend protocol. `events` describes its failures and restarts.

    `url` is its address as the params name it, `address` the one with a password from the environment.

    Args:
        server: its kind, a key of `DIALECTS`.
        dtype: the number format that it must compute in.
        device: the kind of device that it must run on.
        log: output file of a launched server.
        spins: whether OpenMP threads of a launched server spin while they wait.

    Raises:
        ServerNotStarted: if a launched server did not come up.
        ServerFault: if nothing answers at the address.
        ValueError: if its weights, number format or prefix reuse do not match the run.
    """

    def __init__(
        self,
        server: str,
        place: ServerPlace,
        *,
        model: Model,
        dtype: DType,
        device: str,
        log: Path,
        timeout_seconds: float = 120.0,
        spins: bool = False,
    ) -> None:
        self.events: list[str] = []
        self.compile_events: list[CompileEvent] = []
        self.model = model
        self._client: ScoreClient | None = None
        self._place, self._restarts_left = place, place.restarts
        self._process = self._launched(place, model, dtype, device, log, spins) if place.launch else None
        settings: dict[str, str | int | float | bool] = {}
        try:
            if self._process is not None:
                settings["start_seconds"] = round(self._process.start(), 3)
            self.url = self._process.url if self._process else str(place.url)
            self.address = self._process.url if self._process else place.address
            about = self._about = self._ask(server)
            _check(about, place, model, dtype, server)
            self.served_model = place.served_model or about.model or "default"
            self._client = ScoreClient(
                self.address,
                server=server,
                model=self.served_model,
                dtype=dtype,
                device=device,
                timeout_seconds=timeout_seconds,
            )
        except BaseException:
            self.close()
            raise
        self.info = self._info(about, settings | ({"reuse_prefix": 1} if place.keeps_prefix else {}))

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Compile nothing, see `ScoreClient.prepare`, but refuse what the server would: it is then never sent.

        Raises:
            ValueError: naming the stated limit that a request exceeds, the value and the remedy.
        """
        for request in requests:
            if (exceeded := self._about.limits.exceeded(request)) is not None:
                raise ValueError(f"{self.info.backend}: {exceeded}")

    def score(self, request: ScoreRequest) -> Scores:
        """Score as `ScoreClient.score` does. A launched server that died is restarted for later calls."""
        assert self._client is not None
        try:
            return self._client.score(request)
        except ServerFault as fault:
            self.events.append(f"{len(request.items_ids)} items: {fault}")
            if self._process is not None and self._restarts_left >= 0 and self._process.has_died(DYING_SECONDS):
                self._restart()
            raise

    @property
    def is_launched(self) -> bool:
        """Whether it was started here."""
        return self._process is not None

    def touch(self) -> None:
        """Ask how the server is: a connection that was closed while others computed is opened again, untimed."""
        assert self._client is not None
        self._client.is_there()

    def close(self) -> None:
        """Close the connections, and stop the server if we started it."""
        if self._client is not None:
            self._client.close()
        if self._process is not None:
            self._process.stop()

    def _restart(self) -> None:
        assert self._process
        death = f"the server died: {self._process.last_words()}"
        self._restarts_left -= 1
        if self._restarts_left < 0:
            self.events.append(f"{death}; not started again: restarts={self._place.restarts} are used up")
            return
        try:
            seconds = self._process.start()
        except ServerNotStarted as error:
            self.events.append(f"{death}; {error}")
        else:
            n = self._place.restarts - self._restarts_left
            self.events.append(f"{death}; started again in {seconds:.1f} s ({n} of {self._place.restarts} times)")

    def _launched(
        self, place: ServerPlace, model: Model, dtype: str, device: str, log: Path, spins: bool
    ) -> LaunchedServer:
        port = free_port()
        values = dict.fromkeys(PLACEHOLDERS, "") | dict(
            python=sys.executable, peers=str(PEERS), port=str(port), model=model.name, dtype=dtype, device=device
        )
        if "{weights}" in str(place.launch):
            values["weights"] = str(hf_folder(model, dtype))
        command = place.command(values)
        variables = place.variables | (SPINNING if spins else {})
        return LaunchedServer(command, port, variables=variables, log=log, start_seconds=place.start_seconds)

    def _ask(self, server: str) -> About:
        with httpx.Client(base_url=self.address) as http:
            try:
                http.get("/health", timeout=10.0)
            except httpx.TransportError as error:
                raise ServerFault(
                    "connection", f"{server} at {self.url}: {str(error) or type(error).__name__}"
                ) from None
            return ask_about(http)

    def _info(self, about: About, settings: dict[str, str | int | float | bool]) -> BackendInfo:
        reported = {
            "software": about.software,
            "server_version": about.version,
            "served_model": about.model,
            "server_device": about.device,
        }
        place = {"started_by": self._place.launch} if self._place.launch else {"started_by": "somebody else"}
        assert self._client is not None
        client = self._client.info
        return replace(
            client,
            precision=about.precision or client.precision,
            settings=client.settings
            | place
            | {name: value for name, value in reported.items() if value is not None}
            | {f"flag_{name}": value for name, value in about.flags.items()}
            | settings,
        )


def hf_folder(model: Model, dtype: str) -> Path:
    """Return the model as a Hugging Face folder, with its tokenizer if it has one; write it once and keep it."""
    from scorematrix.models.safetensors_writer import write_hf_folder

    folder = cache_folder() / "served" / f"{model.key}.{dtype}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        tokenizer = model.tokenizer.to_json() if model.tokenizer else None
        write_hf_folder(folder, model.config, model.weights, dtype, tokenizer)
    return folder


def _check(about: About, place: ServerPlace, model: Model, dtype: str, server: str) -> None:
    if about.reuse_prefix and not place.keeps_prefix:
        raise ValueError(
            f"{server} reports reuse_prefix={about.reuse_prefix}: it keeps queries between requests, but the params "
            "say keeps_prefix=False; set keeps_prefix=True, or start the server without prefix reuse"
        )
    if about.weights_sha256 and about.weights_sha256 != model.weights.sha256:
        raise ValueError(
            f"{server} serves weights_sha256={about.weights_sha256[:12]}..., but the run's model {model.name} has "
            f"{model.weights.sha256[:12]}...; serve the same model"
        )
    if about.dtype in ("float32", "bfloat16", "float16") and about.dtype != dtype:
        raise ValueError(
            f"{server} computes in dtype={about.dtype}, but the run uses {dtype}; use the same dtype for both"
        )
