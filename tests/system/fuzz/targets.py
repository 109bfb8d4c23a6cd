"""Targets for atheris, which is guided by coverage: `python -m tests.system.fuzz.targets bearer -max_total_time=60`.

It mutates the files in a directory that is named too. What it can't get past by chance, such as a checksum, is helped.
"""

from __future__ import annotations

import io
import ipaddress
import os
import sys
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import atheris

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
with atheris.instrument_imports(
    include=["apikeys", "oauth", "onehorizon", "workspaces", "rest_framework", "django.http", "django.utils.dateparse"]
):
    import django

    django.setup()

    from django.test import RequestFactory
    from rest_framework.exceptions import ParseError, ValidationError
    from rest_framework.test import APIClient

    from apikeys import keys
    from apikeys.serializers import NewApiKeySerializer
    from core.client_ip import client_ip, network_of
    from core.formats import BodyTooLarge, OrjsonParser
    from onehorizon.errors import envelope, flatten
    from onehorizon.wsgi import application  # noqa: F401, all that a request comes by
    from tests.system.fuzz.envelope import require_envelope
    from workspaces.ids import is_id, new_id
    from workspaces.serializers import task_query


def bearer(data: bytes) -> None:
    text = data.decode("latin-1")
    for presented in (text, text + keys.checksum(text)):
        key_id = keys.parse(presented)
        if key_id is not None:
            assert presented.startswith(f"one_{key_id}_")
            assert len(presented) == 66
            assert presented.isascii()
            assert keys.MASKED_PATTERN.fullmatch(keys.mask(key_id))


def header(data: bytes) -> None:
    """Who asked, as proxies tell."""
    forwarded, _, peer = data.decode("latin-1").partition("\n")
    client = client_ip(requests.get("/", REMOTE_ADDR=peer or "127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded))
    assert client is None or str(ipaddress.ip_address(client)) == client
    assert network_of(client) == "" if client is None else ipaddress.ip_network(network_of(client))


def identifier(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if is_id("tsk", text):
        assert len(text) == len(new_id("tsk"))
        assert text.isascii()
        assert text.isalnum() or text.count("_") == 1


def query(data: bytes) -> None:
    """Cursors among the rest of what a list takes."""
    try:
        params = task_query.__wrapped__(data.decode("latin-1"))
    except ValidationError as refused:
        require_envelope(400, envelope(400, "Refused.", flatten(refused.detail)))
    else:
        assert 1 <= params["limit"] <= 200
        assert is_id("tsk", params.get("cursor", new_id("tsk")))


def body(data: bytes) -> None:
    """JSON, and in it the time when a key expires."""
    try:
        sent = OrjsonParser().parse(io.BytesIO(data))
    except (ParseError, BodyTooLarge):
        return
    serializer = NewApiKeySerializer(data=sent)
    if serializer.is_valid():
        assert len(serializer.digest) == 64
    else:
        require_envelope(400, envelope(400, "Refused.", flatten(serializer.errors)))


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PLACES = ["me", "workspaces", "workspaces/current", "workspaces/current/members", "workspaces/current/tasks"]
PLACES += ["workspaces/current/api-keys", "workspaces/current/tasks/", "workspaces/current/api-keys/", "workspaces/"]


def request(data: bytes) -> None:
    """The whole way, as the person of FUZZ_AUTHORIZATION or as whoever the input says."""
    given = atheris.FuzzedDataProvider(data)
    method, path = given.PickValueInList(METHODS), given.PickValueInList(PLACES)
    if path.endswith("/"):
        path += quote_from_bytes(given.ConsumeBytes(given.ConsumeIntInRange(0, 40)), safe="")
    known = given.ConsumeBool()
    query = given.ConsumeBytes(given.ConsumeIntInRange(0, 60))
    who = os.environ["FUZZ_AUTHORIZATION"] if known else given.ConsumeBytes(80).decode("latin-1")
    answer = client.generic(
        method,
        f"/api/v1/{path}",
        given.ConsumeBytes(given.remaining_bytes()),
        "application/json",
        QUERY_STRING=quote_from_bytes(query, safe="&=;+%"),
        HTTP_AUTHORIZATION=who,
    )
    assert answer.status_code < 500
    assert answer["Cache-Control"] == "no-store"
    if answer.status_code >= 400 and method != "HEAD":
        require_envelope(answer.status_code, answer.json())


requests, client = RequestFactory(), APIClient()
TARGETS: list[Callable[[bytes], None]] = [bearer, header, identifier, query, body, request]

if __name__ == "__main__":
    (target,) = (target for target in TARGETS if target.__name__ == sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
