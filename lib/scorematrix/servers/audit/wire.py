"""Raw replies of a live server to any body, including those that a scoring client would reject."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from scorematrix.servers.client import DIALECTS, FaultKind, StatedLimits, ask_about
from scorematrix.servers.client.answers import error_words
from scorematrix.servers.client.deadline import DeadlineTransport
from scorematrix.workload.request import ScoreRequest, body_of

MESSAGE_CHARACTERS = 160
"""Only this much of a server's message is shown."""
GRACE_SECONDS = 3.0
"""A server whose engine died may keep answering for this long."""


@dataclass(frozen=True)
class Reply:
    """A server's reply. Without a complete answer, `status` is None and `fault` is its class."""

    status: int | None
    text: str
    fault: FaultKind | None = None

    @property
    def content(self) -> Any:
        """The body as JSON, None if it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def words(self) -> str:
        """The message in one short line: an error's text if it has one."""
        return error_words(self.text, MESSAGE_CHARACTERS)


class Wire:
    """The scoring path of a server, without the checks of a client."""

    def __init__(self, url: str, server: str, served_model: str, timeout_seconds: float) -> None:
        self.dialect, self.served_model, self.timeout_seconds = DIALECTS[server], served_model, timeout_seconds
        self._grace_seconds = GRACE_SECONDS
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, transport=DeadlineTransport())
        self.url = str(self._http.base_url.copy_with(userinfo=b"")).rstrip("/") + self.dialect.path

    def close(self) -> None:
        self._http.close()

    def post(self, body: Any, timeout_seconds: float | None = None) -> Reply:
        """Send a body: bytes unchanged, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers, limit = {"Content-Type": "application/json"}, timeout_seconds or self.timeout_seconds
        try:
            response = self._http.post(self.dialect.path, content=content, headers=headers, timeout=limit)
            return Reply(response.status_code, response.text)
        except httpx.TimeoutException:
            return Reply(None, f"no complete answer within {limit:g} s", "timeout")
        except httpx.TransportError as error:
            return Reply(None, str(error) or type(error).__name__, "connection")

    def rows(self, request: ScoreRequest, timeout_seconds: float | None = None, **more: Any) -> np.ndarray | Reply:
        """Return scores for a request with `more` fields in the body, or the first reply that has none."""
        columns = []
        for call in self.dialect.calls(request):
            reply = self.post(body_of(call, self.served_model) | more, timeout_seconds)
            if (rows := self.read_rows(reply)) is None or len(rows) != len(request.items_ids):
                return reply
            columns.append(rows)
        return np.concatenate(columns, axis=1)

    def read_rows(self, reply: Reply) -> np.ndarray | None:
        """Return the rows of scores in a 200 reply, None if there are none."""
        if reply.status != 200:
            return None
        try:
            rows = self.dialect.rows(reply.content)
            return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if len(rows) else 0)
        except (KeyError, TypeError, AttributeError, ValueError):
            return None

    def is_there(self) -> bool:
        """Return whether anything listens at the address."""
        try:
            self._http.get("/health", timeout=min(self.timeout_seconds, 5.0))
        except httpx.TimeoutException:
            return True
        except httpx.TransportError as error:
            return not isinstance(error, httpx.ConnectError)
        return True

    def outlives(self, reply: Reply) -> bool:
        """Return whether the server is still there, a moment after a reply without a complete answer."""
        ends = time.monotonic() + (self._grace_seconds if reply.fault else 0.0)
        while self.is_there():
            if time.monotonic() >= ends:
                if reply.fault:  # it only cuts connections: wait less next time
                    self._grace_seconds = GRACE_SECONDS / 10
                return True
            time.sleep(0.1)
        return False

    def stated_limits(self) -> StatedLimits:
        """Return the limits that the server reports."""
        return ask_about(self._http).limits
