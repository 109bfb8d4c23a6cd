"""A client with little overhead: raw keep-alive sockets, one request at a time per connection."""

import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

HOST = "bench.example"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


def get(path: str, authorization: str = "") -> bytes:
    """Return the bytes of a GET request as a production proxy sends it."""
    return _request("GET", path, {"Authorization": authorization} if authorization else {})


def post(path: str, authorization: str, body: bytes) -> bytes:
    """Return the bytes of a POST request with a JSON body, as a production proxy sends it."""
    headers = {"Authorization": authorization, "Content-Type": "application/json", "Content-Length": str(len(body))}
    return _request("POST", path, headers) + body


def _request(method: str, path: str, headers: dict[str, str]) -> bytes:
    proxied = {"Host": HOST, "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "Accept": "*/*"}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (proxied | headers).items())]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Burst:
    seconds: float
    latencies: list[float]  # seconds, one per request
    statuses: set[int]
    body: bytes  # of the last response


class Client:
    def __init__(self, port: int, connections: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(connections)]
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, requests: Sequence[bytes]) -> Burst:
        idle = list(self._sockets)
        pending: deque[tuple[socket.socket, float]] = deque()
        latencies, statuses, body = [], set(), b""

        def finish() -> bytes:
            connection, sent_at = pending.popleft()
            status, body = _read_response(connection)
            latencies.append(time.perf_counter() - sent_at)
            statuses.add(status)
            idle.append(connection)
            return body

        start = time.perf_counter()
        for request in requests:
            if not idle:
                finish()
            connection = idle.pop()
            pending.append((connection, time.perf_counter()))
            connection.sendall(request)
        while pending:
            body = finish()
        return Burst(time.perf_counter() - start, latencies, statuses, body)

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()


def _read_response(connection: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body."""
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _receive(connection)
    match = _LENGTH.search(received, 0, end + 2)
    assert match, received[:end]
    length = int(match[1])
    while len(received) < end + 4 + length:
        received += _receive(connection)
    return int(received[9:12]), received[end + 4 :]


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 18)
    if not received:
        raise ConnectionError("the server closed the connection")
    return received
