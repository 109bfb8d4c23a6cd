"""Arbitrary bytes, sent through the whole API and to each parser.

No input causes a 5xx. Each error has the envelope, and a rejected request writes nothing.
"""

from __future__ import annotations

import io
import ipaddress
import json
import string
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from django.db.models import Count, Max
from django.test import RequestFactory
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from hypothesis import assume, example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError, ValidationError

from apikeys import keys
from apikeys.models import ApiKey, StoredSecret
from core.client_ip import client_ip, networks_of
from core.formats import BodyTooLarge, OrjsonParser
from tests.helpers import Api, make_token
from tests.system.fuzz.budget import fuzz_settings
from tests.system.fuzz.envelope import require_envelope
from tests.system.fuzz.strategies import (
    bodies,
    header_values,
    ids,
    json_texts,
    near_misses,
    sendable,
    texts,
    timestamps,
)
from workspaces.access import CredentialRejected
from workspaces.ids import is_id, new_id
from workspaces.models import AuditEvent, Task, TaskContributor, Tier, User, Workspace
from workspaces.serializers import TaskQuery, validated_query
from workspaces.validators import normalize

TASKS = "/workspaces/current/tasks"
KEYS = "/workspaces/current/api-keys"
UNAUTHORIZED = b'{"code":401,"message":"The API key or access token is not valid."}'
WELL_FORMED = "one_8kJ2mQ4xZt7c_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1w5fNb"  # but not issued


@pytest.fixture(autouse=True)
def _high_limits(settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 100_000
    settings.APIKEYS_MAX_ACTIVE = 10_000


@pytest.fixture
def owner_api(owner: User, workspace: Workspace) -> Api:
    """The REST API with the owner's token, and a quota that no test uses up."""
    Tier.objects.update(requests=10_000, seconds=1, burst_requests=10_000, burst_seconds=1)
    return Api(make_token(owner))


def written_state() -> list[Any]:
    """Return a value that changes with every write of the API, except updates of the last use.

    A changed key has a new audit event.
    """
    tasks = Task.objects.aggregate(Count("pk"), Max("updated_at"))
    return [tasks, TaskContributor.objects.count(), ApiKey.objects.count(), AuditEvent.objects.count()]


def send(api: Api, method: str, path: str, **options: Any) -> Any:
    """Send a request, and return the response. Fail on a 5xx, and on an error without envelope or with a write."""
    before = written_state()
    response = api.request(method, path, **options)
    assert response.status_code < 500
    assert response["Cache-Control"] == "no-store"
    if response.status_code >= 400:
        require_envelope(response.status_code, response.json())
        assert written_state() == before
    return response


def json_options(body: bytes, **headers: str) -> dict[str, Any]:
    return {"data": body, "content_type": "application/json", "headers": headers}


# ---- headers and credentials ----


@pytest.mark.django_db
@fuzz_settings
@given(header=st.binary(max_size=300))
@example(header=b"\0")
@example(header=b"Bearer \xff")
@example(header=b"Bearer " * 10_000)
def test_no_bytes_in_the_authorization_header_authenticate(header: bytes) -> None:
    """WSGI decodes each byte of a header to one character."""
    response = send(Api(), "GET", "/me", HTTP_AUTHORIZATION=header.decode("latin-1"))

    assert response.status_code == 401


@pytest.mark.django_db
@fuzz_settings
@given(
    bearer=texts
    | near_misses(WELL_FORMED)
    | st.from_regex(keys.PATTERN, fullmatch=True)
    | st.from_regex(r"[0-9A-Za-z]{30}", fullmatch=True)
)
def test_no_invented_bearer_string_authenticates(bearer: str) -> None:
    assume(bearer.strip(" \t"))  # the scheme alone is no credential

    response = send(Api(), "GET", "/me", HTTP_AUTHORIZATION=f"Bearer {bearer}")

    assert (response.status_code, response.content) == (401, UNAUTHORIZED)


@pytest.mark.django_db
@fuzz_settings
@given(data=st.data())
def test_no_mutation_of_a_valid_key_authenticates(data: st.DataObject, secret: str) -> None:
    mutated = data.draw(near_misses(secret))
    assume(mutated.strip(" \t") not in (secret, ""))  # whitespace around a header is ignored

    response = send(Api(), "GET", "/me", HTTP_AUTHORIZATION=f"Bearer {mutated}")

    assert (response.status_code, response.content) == (401, UNAUTHORIZED)


@pytest.mark.django_db
@fuzz_settings
@given(text=texts | near_misses(WELL_FORMED))
def test_no_invented_key_is_looked_up(text: str) -> None:
    with pytest.raises(StoredSecret.DoesNotExist):
        StoredSecret.objects.look_up(text)
    assert StoredSecret.objects.find_by_secret(text) is None
    with pytest.raises(CredentialRejected):
        StoredSecret.objects.authenticate(text)


@fuzz_settings
@given(text=texts | near_misses(WELL_FORMED) | st.from_regex(keys.PATTERN, fullmatch=True))
@example(text=WELL_FORMED)
def test_only_strings_with_the_form_and_the_checksum_parse(text: str) -> None:
    key_id = keys.parse(text)

    well_formed = len(text) == len(WELL_FORMED) and text.isascii() and text[-6:] == keys.checksum(text[:-6])
    assert (key_id is not None) <= well_formed
    if key_id is not None:
        assert text.startswith(f"one_{key_id}_")
        assert keys.MASKED_PATTERN.fullmatch(keys.mask(key_id))
        assert set(text) <= {*keys.ALPHABET, "_"}


media_types = st.from_regex(r"[a-z*]{1,5}/[a-z*]{1,5}(;[a-z]{1,7}=[ -~]{0,9})*", fullmatch=True)
HEADERS = ["Accept", "Content-Type", "Idempotency-Key", "X-Request-Id", "X-Forwarded-For", "Host", "Cookie", "If-Match"]


@pytest.mark.django_db
@fuzz_settings
@given(name=st.sampled_from(HEADERS), value=header_values | media_types)
def test_no_other_header_causes_an_unexpected_status(name: str, value: str, owner_api: Api, settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.1")]
    options: dict[str, Any] = {"data": b'{"description":"CI"}', "content_type": "application/json"}
    if name == "Content-Type":
        options["content_type"] = value
    else:
        options["HTTP_" + name.upper().replace("-", "_")] = value

    assert send(owner_api, "POST", KEYS, **options).status_code in (200, 201, 400, 406, 415, 422)


ips = st.ip_addresses().map(str)


@fuzz_settings
@given(peer=ips | texts, forwarded=st.lists(ips | texts, max_size=5).map(",".join), trusted=st.booleans())
def test_a_client_ip_is_valid_or_none_whatever_was_forwarded(
    peer: str, forwarded: str, trusted: bool, settings: Any
) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network(network) for network in ("0.0.0.0/0", "::/0") if trusted]

    client = client_ip(RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded))

    assert client is None or str(ipaddress.ip_address(client)) == client
    networks = [network for network, _ in networks_of(client)]
    assert networks == [""] if client is None else all(map(ipaddress.ip_network, networks))
    if client is not None and not trusted:
        peer_ip = ipaddress.ip_address(peer.strip())
        assert ipaddress.ip_address(client) in (peer_ip, getattr(peer_ip, "ipv4_mapped", None))


# ---- ids, cursors and queries ----


@fuzz_settings
@given(prefix=st.sampled_from(["w", "u", "tsk", "key"]), text=ids("tsk") | texts)
def test_an_id_has_one_form(prefix: str, text: str) -> None:
    alphabet = string.digits + "abcdefghjkmnpqrstvwxyz"
    body = text.removeprefix(f"{prefix}_")

    assert is_id(prefix, text) == (text.startswith(f"{prefix}_") and len(body) == 26 and set(body) <= set(alphabet))
    assert is_id(prefix, new_id(prefix))


@pytest.mark.django_db
@fuzz_settings
@given(method=st.sampled_from(["GET", "PATCH", "DELETE"]), workspace=ids("w"), task=ids("tsk"), api_key=ids("key"))
def test_an_invented_id_gets_404(method: str, workspace: str, task: str, api_key: str, owner_api: Api) -> None:
    workspace, task, api_key = (quote(text, safe="") for text in (workspace, task, api_key))
    paths = [
        f"/workspaces/{workspace}/tasks/{task}",
        f"/workspaces/{workspace}/api-keys/{api_key}",
        f"/workspaces/current/tasks/{task}",
        f"/workspaces/current/api-keys/{api_key}",
        f"/workspaces/current/api-keys/{api_key}/previous-secret",
    ]
    options = json_options(b"{}") if method == "PATCH" else {}
    for path in paths:
        # 405: with an empty id, the path can belong to another resource.
        assert send(owner_api, method, path, **options).status_code in (404, 405)


@pytest.mark.django_db
@fuzz_settings
@given(cursor=ids("tsk") | texts.map(lambda text: text.encode("utf-8", "surrogatepass").decode("latin-1")))
def test_a_cursor_is_an_id_or_rejected(cursor: str, owner_api: Api) -> None:
    response = send(owner_api, "GET", TASKS, QUERY_STRING=f"cursor={quote(cursor, safe='')}")

    assert response.status_code == (200 if is_id("tsk", cursor) else 400)


parameters = st.tuples(
    st.sampled_from(["status", "scope", "kind", "userId", "limit", "cursor", "all", "unknown"]) | sendable,
    st.sampled_from(
        ["open", "bug", "todo", "1", "200", "201", "-0", "\uff11", "1e1", "0x1", " 7 ", "true", "", "9" * 5_000]
    )
    | sendable,
)
query_strings = st.lists(parameters, max_size=6).map(
    lambda pairs: "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
) | st.binary(max_size=80).map(lambda raw: quote_from_bytes(raw, safe="&=;+%"))


@pytest.mark.django_db
@fuzz_settings
@given(query=query_strings)
def test_a_query_is_parsed_or_rejected(query: str, owner_api: Api) -> None:
    try:
        params = validated_query(TaskQuery, query)
    except ValidationError:
        params = None

    assert send(owner_api, "GET", TASKS, QUERY_STRING=query).status_code == (400 if params is None else 200)
    assert params is None or 1 <= params["limit"] <= 200


# ---- bodies and timestamps ----


@pytest.mark.django_db
@fuzz_settings
@given(body=bodies("title", "description", "status", "userId", "contributors", "taskId", "\ud800", ""))
@example(body=b'{"title":"a","title":"b"}')
@example(body=b'{"title":"\\u0000"}')
@example(body=b'{"title":"\\ud800"}')
def test_a_task_is_created_as_sent_or_not_at_all(body: bytes, owner_api: Api) -> None:
    response = send(owner_api, "POST", TASKS, **json_options(body))

    assert response.status_code in (201, 400, 413)
    if response.status_code == 201:
        created = response.json()
        assert created["title"] == normalize(json.loads(body)["title"].strip())
        assert Task.objects.get(pk=created["taskId"]).title == created["title"]
        updated = send(owner_api, "PATCH", f"{TASKS}/{created['taskId']}", **json_options(body)).json()
        assert updated["title"] == created["title"]


@pytest.mark.django_db
@fuzz_settings
@given(body=bodies("description", "expiresAt", "secret", "apiKeyId", "\udfff"))
def test_a_key_is_created_as_sent_or_not_at_all(body: bytes, owner_api: Api) -> None:
    response = send(owner_api, "POST", KEYS, **json_options(body))

    assert response.status_code in (201, 400, 413)
    if response.status_code == 201:
        assert response.json()["description"] == normalize(json.loads(body)["description"].strip())


@pytest.mark.django_db
@fuzz_settings
@given(body=bodies("overlapSeconds", "secret", "\udfff"))
@example(body=b'{"overlapSeconds":604800.0}')
@example(body=b'{"overlapSeconds":1e400}')
@example(body=b'{"overlapSeconds":"60"}')
def test_a_key_is_rotated_with_the_overlap_that_was_sent_or_not_at_all(body: bytes, owner_api: Api) -> None:
    key = send(owner_api, "POST", KEYS, **json_options(b'{"description":"CI"}')).json()

    response = send(owner_api, "POST", f"{KEYS}/{key['apiKeyId']}/rotate", **json_options(body))

    assert response.status_code in (200, 400, 413)
    current = StoredSecret.objects.current().get(api_key=key["apiKeyId"])
    assert (current.masked != key["maskedKey"]) is (response.status_code == 200)
    if response.status_code == 200:
        replaced = StoredSecret.objects.get(key_id=keys.key_id_of(key["secret"]))
        assert replaced.replaced_at is not None
        assert replaced.ends_at is not None
        sent = json.loads(body.decode("utf-8-sig")).get("overlapSeconds", 86400) if body else 86400
        assert (replaced.ends_at - replaced.replaced_at).total_seconds() == sent


@pytest.mark.django_db
@fuzz_settings
@given(time=timestamps)
@example(time="9999-12-31T23:59:59.999999-23:59")
@example(time="2028-12-31T23:59:60Z")
@example(time="2028-01-01T00:00:00")
def test_a_key_gets_the_expiry_that_was_sent_or_is_not_created(time: str, owner_api: Api) -> None:
    body = json.dumps({"description": "CI", "expiresAt": time}).encode()

    response = send(owner_api, "POST", KEYS, **json_options(body))

    assert response.status_code in (201, 400)
    if response.status_code == 201 and response.json()["expiresAt"] is not None:
        expires = datetime.fromisoformat(response.json()["expiresAt"])
        expected = parse_datetime(time.upper())
        assert expected is not None
        assert expected.tzinfo is not None
        assert expires == expected
        assert expires > timezone.now()
        assert ApiKey.objects.get(pk=response.json()["apiKeyId"]).expires_at == expires


@fuzz_settings
@given(body=json_texts)
def test_a_body_is_valid_json_or_rejected(body: bytes) -> None:
    try:
        parsed = OrjsonParser().parse(io.BytesIO(body))
    except (ParseError, BodyTooLarge):
        return
    json.dumps(parsed, allow_nan=False).encode()
    assert parsed == json.loads(body.decode("utf-8-sig"), parse_int=integer)


def integer(digits: str) -> int | float:
    """Parse an integer as orjson does: as a float if it doesn't fit into 64 bits."""
    return int(digits) if len(digits) < 25 and -(2**63) <= int(digits) < 2**64 else float(digits)
