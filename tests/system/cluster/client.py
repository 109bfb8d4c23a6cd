"""A client of the REST API that opens a connection for each request, and clients that run in the background."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.processes import TIMEOUT

ME = "/api/v1/me"


@dataclass
class Response:
    """A response and when it came. `status` is 0 if the connection broke."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float  # `time.monotonic()`
    ended: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    port: int
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def get(self, path: str, token: str | None = None) -> Response:
        return self.request("GET", path, token)

    def post(self, path: str, token: str, body: Any) -> Response:
        return self.request("POST", path, token, body)

    def delete(self, path: str, token: str) -> Response:
        return self.request("DELETE", path, token)

    def request(self, method: str, path: str, token: str | None = None, body: Any = None) -> Response:
        headers = dict(self.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        connection = self.connect()
        began = time.monotonic()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            return Response(0, {}, b"", began, time.monotonic())
        finally:
            connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, names, content, began, time.monotonic())


@dataclass
class Traffic:
    """The responses to clients that ran in the background."""

    responses: list[Response] = field(default_factory=list)
    created: dict[str, str] = field(default_factory=dict)  # acknowledged keys: their ids and secrets
    revoked: list[str] = field(default_factory=list)  # ids of keys whose revocation was acknowledged

    def statuses_after(self, moment: float) -> list[int]:
        return [response.status for response in list(self.responses) if response.began > moment]


@contextmanager
def traffic(client: Client, workspace: str, secret: str, token: str, readers: int = 4) -> Iterator[Traffic]:
    """Run clients that send requests with an API key, and one that creates and revokes keys, during the block."""
    recorded, stop = Traffic(), threading.Event()
    keys = f"/api/v1/workspaces/{workspace}/api-keys"

    def read() -> None:
        while not stop.wait(0.02):
            recorded.responses.append(client.get(ME, secret))

    def create_and_revoke() -> None:
        """Create two keys and revoke the first of them, again and again."""
        while not stop.wait(0.02):
            responses = [client.post(keys, token, {"description": "In the background"}) for _ in range(2)]
            created = [response.json for response in responses if response.status == 201]
            recorded.created |= {key["apiKeyId"]: key["secret"] for key in created}
            if created:
                api_key_id = created[0]["apiKeyId"]
                responses.append(client.delete(f"{keys}/{api_key_id}", token))
                if responses[-1].status == 204:
                    recorded.revoked.append(api_key_id)
            recorded.responses += responses

    threads = [threading.Thread(target=function, daemon=True) for function in [read] * readers + [create_and_revoke]]
    for thread in threads:
        thread.start()
    try:
        yield recorded
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT)
