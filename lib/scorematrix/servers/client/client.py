"""A live server as a backend: sequential calls over kept-alive connections, every response checked."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np

from scorematrix.scoring.contract import BackendInfo, CompileEvent, DType, Scores
from scorematrix.servers.client.answers import REFUSED, FaultKind, ServerFault, read_answer
from scorematrix.servers.client.deadline import DeadlineTransport
from scorematrix.servers.dialects import checked_address, dialect_of
from scorematrix.workload.request import ScoreRequest, body_of


class ScoreClient:
    """A scoring server behind the Backend protocol. Connections are kept alive; there are no automatic retries.

    Args:
        url: the server's address, without a path.
        server: its kind, a key of `DIALECTS`.
        model: the name under which it serves the model.
        dtype: the number format that it was started with; the protocol does not report it.
        device: a description of the hardware that it runs on.

    Raises:
        ValueError: for an unknown kind or an invalid address.
    """

    def __init__(
        self,
        url: str,
        *,
        server: str = "sglang",
        model: str = "default",
        dtype: DType = "float32",
        device: str = "server",
        timeout_seconds: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._dialect, self._model = dialect_of(server), model
        self._http = httpx.Client(
            base_url=checked_address(url), timeout=timeout_seconds, transport=transport or DeadlineTransport()
        )
        self._timeout_seconds, self._has_answered = timeout_seconds, False
        self.info = BackendInfo(
            backend=server,
            view="server",
            framework=self._dialect.framework,
            device=device,
            dtype=dtype,
            precision=f"{dtype}, as the server was started; a server does not tell",
            settings={"protocol": self._dialect.path},
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Do nothing: a server compiles at its start and during its first calls, which are warm-up."""

    def score(self, request: ScoreRequest) -> Scores:
        """Return the server's scores after checking its response.

        Raises:
            ValueError: if the server rejects the request (400, 404, 413, 422); quotes its error.
            ServerFault: for every other invalid response.
        """
        parts = [self._ask(call) for call in self._dialect.calls(request)]
        return np.concatenate(parts, axis=1)

    def is_there(self) -> bool:
        """Return whether anything still listens at the address."""
        try:
            self._http.get("/health", timeout=min(self._timeout_seconds, 5.0))
        except httpx.TransportError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _ask(self, request: ScoreRequest) -> Scores:
        try:
            response = self._http.post(self._dialect.path, json=body_of(request, self._model))
        except httpx.TimeoutException:
            raise ServerFault("timeout", f"no answer within {self._timeout_seconds:g} s") from None
        except httpx.TransportError as error:
            kind: FaultKind = "server_died" if self._has_answered and not self.is_there() else "connection"
            reason = "it answered before and is gone" if kind == "server_died" else str(error) or type(error).__name__
            raise ServerFault(kind, reason) from None
        self._has_answered |= response.status_code in (200, *REFUSED)
        retry_after = response.headers.get("retry-after")
        return read_answer(response.status_code, response.text, request, self._dialect, retry_after=retry_after)
