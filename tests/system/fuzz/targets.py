"""Targets for atheris, which is guided by coverage: `python -m tests.system.fuzz.targets bearer -max_total_time=60`.

atheris mutates the files of the corpus directory, which is another argument. Targets add what mutations can't find by
chance, such as a checksum.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import sys
from collections.abc import Callable
from typing import Any
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
    from apikeys.serializers import ApiKeyRotationSerializer, NewApiKeySerializer
    from core.client_ip import client_ip, networks_of
    from core.formats import BodyTooLarge, OrjsonParser
    from onehorizon.errors import error_response, flatten
    from onehorizon.wsgi import application  # noqa: F401, all code that handles a request
    from tests.system.fuzz.envelope import require_envelope
    from workspaces.ids import is_id, new_id
    from workspaces.serializers import TaskQuery, validated_query


def require_field_errors(detail: Any) -> None:
    """Fail unless DRF's errors fit into the envelope."""
    require_envelope(400, json.loads(error_response(400, "Refused.", flatten(detail)).content))


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
    """The client IP, from X-Forwarded-For and the IP of the peer."""
    forwarded, _, peer = data.decode("latin-1").partition("\n")
    client = client_ip(factory.get("/", REMOTE_ADDR=peer or "127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded))
    assert client is None or str(ipaddress.ip_address(client)) == client
    networks = [network for network, _ in networks_of(client)]
    assert networks == [""] if client is None else all(map(ipaddress.ip_network, networks))


def identifier(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if is_id("tsk", text):
        assert len(text) == len(new_id("tsk"))
        assert text.isascii()
        assert text.isalnum() or text.count("_") == 1


def query(data: bytes) -> None:
    """The cursor and the other query parameters of a list."""
    try:
        params = validated_query.__wrapped__(TaskQuery, data.decode("latin-1"))
    except ValidationError as error:
        require_field_errors(error.detail)
    else:
        assert 1 <= params["limit"] <= 200
        assert is_id("tsk", params.get("cursor", new_id("tsk")))


def body(data: bytes) -> None:
    """A JSON body, and the expiry of a key and the overlap of a rotation in it."""
    try:
        parsed = OrjsonParser().parse(io.BytesIO(data))
    except (ParseError, BodyTooLarge):
        return
    for serializer in (NewApiKeySerializer(data=parsed), ApiKeyRotationSerializer(data=parsed)):
        if serializer.is_valid():
            assert len(serializer.digest) == 64
        else:
            require_field_errors(serializer.errors)


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = ["me", "workspaces", "workspaces/current", "workspaces/current/members", "workspaces/current/tasks"]
PATHS += ["workspaces/current/api-keys", "workspaces/current/tasks/", "workspaces/current/api-keys/", "workspaces/"]


def request(data: bytes) -> None:
    """A whole request, with the credential in FUZZ_AUTHORIZATION or with one from the input."""
    provider = atheris.FuzzedDataProvider(data)
    method, path = provider.PickValueInList(METHODS), provider.PickValueInList(PATHS)
    if path.endswith("/"):
        path += quote_from_bytes(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 40)), safe="")
    is_authenticated = provider.ConsumeBool()
    query = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 60))
    authorization = (
        os.environ["FUZZ_AUTHORIZATION"] if is_authenticated else provider.ConsumeBytes(80).decode("latin-1")
    )
    response = client.generic(
        method,
        f"/api/v1/{path}",
        provider.ConsumeBytes(provider.remaining_bytes()),
        "application/json",
        QUERY_STRING=quote_from_bytes(query, safe="&=;+%"),
        HTTP_AUTHORIZATION=authorization,
    )
    assert response.status_code < 500
    assert response["Cache-Control"] == "no-store"
    if response.status_code >= 400 and method != "HEAD":
        require_envelope(response.status_code, response.json())


factory, client = RequestFactory(), APIClient()
TARGETS: list[Callable[[bytes], None]] = [bearer, header, identifier, query, body, request]

if __name__ == "__main__":
    (target,) = (target for target in TARGETS if target.__name__ == sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
