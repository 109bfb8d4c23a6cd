"""A client that costs little: raw sockets kept alive, as many requests under way as there are connections."""

import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

HOST = "bench.example"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


def get(path: str, authorization: str = "") -> bytes:
    """A request as the proxy in front of production would send it."""
    headers = {"Host": HOST, "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "Accept": "*/*"}
    if authorization:
        headers["Authorization"] = authorization
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Burst:
    seconds: float
    latencies: list[float]  # seconds, one a request
    statuses: set[int]
    body: bytes  # the last answer's


class Client:
    def __init__(self, port: int, connections: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(connections)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, requests: Sequence[bytes]) -> Burst:
        free = list(self._sockets)
        under_way: deque[tuple[socket.socket, float]] = deque()
        latencies, statuses, body = [], set(), b""

        def finish() -> bytes:
            each, sent = under_way.popleft()
            status, body = _answer(each)
            latencies.append(time.perf_counter() - sent)
            statuses.add(status)
            free.append(each)
            return body

        began = time.perf_counter()
        for request in requests:
            if not free:
                finish()
            each = free.pop()
            under_way.append((each, time.perf_counter()))
            each.sendall(request)
        while under_way:
            body = finish()
        return Burst(time.perf_counter() - began, latencies, statuses, body)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _more(connection)
    told = _LENGTH.search(received, 0, end + 2)
    assert told, received[:end]
    length = int(told[1])
    while len(received) < end + 4 + length:
        received += _more(connection)
    return int(received[9:12]), received[end + 4 :]


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 18)
    if not received:
        raise ConnectionError("the server hung up")
    return received
