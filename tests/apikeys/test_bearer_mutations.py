"""Table 1: mutations of a valid key. All get the same 401, byte for byte, so that the response reveals nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apikeys import hashing, keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, RESOURCE_METADATA, Api, make_key
from workspaces import quota
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

REJECTED = b'{"code":401,"message":"The API key or access token is not valid."}'
INVALID_TOKEN = f'Bearer realm="onehorizon", error="invalid_token", {RESOURCE_METADATA}'
CHALLENGE = f'Bearer realm="onehorizon", {RESOURCE_METADATA}'


@dataclass(frozen=True)
class Keys:
    good: str
    second: str  # another good key of the same workspace
    elsewhere: str  # a good key of another workspace
    revoked: str
    expired: str
    ended: str  # replaced by a rotation, and its overlap has ended
    previous: str  # replaced by a rotation, and it works
    current: str  # of the same key


@pytest.fixture
def known(secret: str, workspace: Workspace, elsewhere: Workspace) -> Keys:
    revoked, revoked_secret = make_key(workspace, "Revoked")
    revoked.revoke(by=BY_TEST)
    expired, expired_secret = make_key(workspace, "Expired", expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    rotated, ended_secret = make_key(workspace, "Rotated")
    previous_secret = rotated.rotate(overlap=timedelta(), by=BY_TEST)
    return Keys(
        good=secret,
        second=make_key(workspace, "Second")[1],
        elsewhere=make_key(elsewhere)[1],
        revoked=revoked_secret,
        expired=expired_secret,
        ended=ended_secret,
        previous=previous_secret,
        current=rotated.rotate(overlap=timedelta(hours=1), by=BY_TEST),
    )


def well_formed(key_id: str, secret: str) -> str:
    body = f"one_{key_id}_{secret}"
    return body + keys.checksum(body)


def other_letter(character: str) -> str:
    return "a" if character != "a" else "b"


ID = slice(4, 16)
SECRET = slice(17, 60)

MUTATIONS: dict[str, Callable[[Keys], str]] = {
    # changed
    "lower case": lambda known: known.good.lower(),
    "upper case": lambda known: known.good.upper(),
    "swapped case": lambda known: known.good.swapcase(),
    "another prefix": lambda known: "two" + known.good[3:],
    "prefix in capitals": lambda known: "ONE" + known.good[3:],
    "first letter of the key id changed": lambda known: known.good[:4] + other_letter(known.good[4]) + known.good[5:],
    "a letter of the secret changed": lambda known: known.good[:30] + other_letter(known.good[30]) + known.good[31:],
    "last letter changed": lambda known: known.good[:-1] + other_letter(known.good[-1]),
    "wrong checksum": lambda known: known.good[:-6] + ("000000" if known.good[-6:] != "000000" else "000001"),
    "reversed": lambda known: known.good[::-1],
    # cut
    "only the prefix": lambda known: "one_",
    "only the key id": lambda known: known.good[ID],
    "prefix, key id and separators": lambda known: known.good[:17],
    "masked": lambda known: known.good[:17] + "...",
    "without the prefix": lambda known: known.good[4:],
    "without the checksum": lambda known: known.good[:-6],
    "without the first character": lambda known: known.good[1:],
    "without the last character": lambda known: known.good[:-1],
    "without separators": lambda known: known.good.replace("_", ""),
    # extended
    "one character added at the end": lambda known: known.good + "A",
    "a second checksum": lambda known: known.good + keys.checksum(known.good),
    "one character added at the start": lambda known: "A" + known.good,
    "twice, without a space": lambda known: known.good * 2,
    "twice, with a space": lambda known: f"{known.good} {known.good}",
    "two good keys, with a space": lambda known: f"{known.good} {known.second}",
    "two good keys, with a comma": lambda known: f"{known.good}, {known.second}",
    "two headers joined with a comma": lambda known: f"{known.good},Bearer {known.good}",
    "the scheme twice": lambda known: f"Bearer {known.good}",
    "a parameter after it": lambda known: f'{known.good};realm="onehorizon"',
    "huge": lambda known: known.good + "A" * 100_000,
    "huge, prefixes only": lambda known: "one_" * 25_000,
    # white space, quotes and encodings
    "a space inside": lambda known: known.good[:20] + " " + known.good[20:],
    "a tab inside": lambda known: known.good[:20] + "\t" + known.good[20:],
    "a line break and a period after it": lambda known: known.good + "\n.",
    "a no-break space after it": lambda known: known.good + "\xa0",
    "a no-break space before it": lambda known: "\xa0" + known.good,
    "a unit separator after it": lambda known: known.good + "\x1f",
    "double quotes": lambda known: f'"{known.good}"',
    "single quotes": lambda known: f"'{known.good}'",
    "backquotes": lambda known: f"`{known.good}`",
    "angle brackets": lambda known: f"<{known.good}>",
    "percent-encoded": lambda known: known.good.replace("_", "%5F"),
    "base64": lambda known: base64.b64encode(known.good.encode()).decode(),
    # other characters
    "non-ASCII letter": lambda known: known.good[:20] + "é" + known.good[21:],
    "non-ASCII letter in UTF-8": lambda known: known.good[:20] + "ö".encode().decode("latin-1") + known.good[22:],
    "full-width first letter": lambda known: "\uff4f" + known.good[1:],
    "an Arabic digit": lambda known: known.good[:20] + "٣" + known.good[21:],
    "NUL inside": lambda known: known.good[:20] + "\0" + known.good[21:],
    "NUL after it": lambda known: known.good + "\0",
    "SQL": lambda known: f"{known.good}' OR '1'='1",
    "a wildcard": lambda known: "one_%_%",
    # well-formed, but never issued
    "an invented secret for a real key id": lambda known: well_formed(known.good[ID], "A" * 43),
    "a real secret for an invented key id": lambda known: well_formed("0" * 12, known.good[SECRET]),
    "a real key id in another case": lambda known: well_formed(known.good[ID].swapcase(), known.good[SECRET]),
    "a real secret in another case": lambda known: well_formed(known.good[ID], known.good[SECRET].swapcase()),
    "a real secret with another last letter": lambda known: well_formed(
        known.good[ID], known.good[SECRET][:-1] + other_letter(known.good[59])
    ),
    "a generated key that was never issued": lambda known: keys.generate().secret,
    "another key's secret and checksum": lambda known: known.good[:17] + known.second[17:],
    "another key's secret, correct checksum": lambda known: well_formed(known.good[ID], known.second[SECRET]),
    "another workspace's secret, correct checksum": lambda known: well_formed(known.good[ID], known.elsewhere[SECRET]),
    "a revoked key's id with an active key's secret": lambda known: well_formed(known.revoked[ID], known.good[SECRET]),
    "all zeros": lambda known: well_formed("0" * 12, "0" * 43),
    # no longer valid
    "revoked": lambda known: known.revoked,
    "expired": lambda known: known.expired,
    "ended": lambda known: known.ended,
    # of one key
    "the previous key id with the current secret": lambda known: well_formed(known.previous[ID], known.current[SECRET]),
    "the current key id with the previous secret": lambda known: well_formed(known.current[ID], known.previous[SECRET]),
    "the ended key id with the current secret": lambda known: well_formed(known.ended[ID], known.current[SECRET]),
    "the current key id with the ended secret": lambda known: well_formed(known.current[ID], known.ended[SECRET]),
    "the previous secret and the current one": lambda known: f"{known.previous} {known.current}",
    "an invented secret for the previous key id": lambda known: well_formed(known.previous[ID], "A" * 43),
    # other kinds of credentials
    "an OAuth-like token": lambda known: "mF_9.B5f-4.1JqM",
    "a JWT": lambda known: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3XzEifQ.",
    "the id of a key object": lambda known: "key_01jbx5w3f8q9r2t4v6y8z0a1c3",
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_every_mutation_of_a_valid_key_gets_the_same_401(
    mutation: Callable[[Keys], str], known: Keys, workspace: Workspace
) -> None:
    token = mutation(known)

    response = Api(Authorization=f"Bearer {token}").get("/me")

    assert response.status_code == 401
    assert response.content == REJECTED
    assert response["WWW-Authenticate"] == INVALID_TOKEN
    assert headers_of(response) == headers_of(Api(well_formed("1" * 12, "1" * 43)).get("/me"))
    assert is_quota_unused(workspace)
    assert not StoredSecret.objects.exclude(last_used_at=None).exists()


def headers_of(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.items() if name != "X-Request-Id"}


def is_quota_unused(workspace: Workspace) -> bool:
    status = quota.status(workspace.pk, workspace.tier)
    return [window.remaining for window in status.windows] == [200, 40]


def test_the_unmutated_keys_are_valid(known: Keys) -> None:
    assert [Api(secret).get("/me").status_code for secret in (known.good, known.second, known.elsewhere)] == [200] * 3


@pytest.mark.parametrize("path", ["/me", "/workspaces/current/tasks", "/workspaces/current", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_every_endpoint_rejects_an_invalid_key_with_the_same_response(method: str, path: str, known: Keys) -> None:
    response = Api(known.revoked).request(method, path, {})

    assert (response.status_code, response.content) == (401, REJECTED)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_case_of_the_scheme_does_not_matter(scheme: str, secret: str) -> None:
    assert Api(Authorization=f"{scheme} {secret}").get("/me").status_code == 200


@pytest.mark.parametrize("template", ["{} ", " {}", "  {}  ", "{}\t"])
def test_white_space_around_the_header_value_is_ignored(template: str, secret: str) -> None:
    assert Api(Authorization=template.format(f"Bearer {secret}")).get("/me").status_code == 200


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


OTHER_CREDENTIALS: dict[str, Callable[[str], dict[str, str]]] = {
    "Basic, key as the password": lambda secret: {"Authorization": basic("", secret)},
    "Basic, key as the user": lambda secret: {"Authorization": basic(secret, "")},
    "Token": lambda secret: {"Authorization": f"Token {secret}"},
    "Api-Key": lambda secret: {"Authorization": f"Api-Key {secret}"},
    "Digest": lambda secret: {"Authorization": f'Digest username="{secret}"'},
    "no scheme": lambda secret: {"Authorization": secret},
    "scheme and key in one": lambda secret: {"Authorization": f"Bearer{secret}"},
    "a colon after the scheme": lambda secret: {"Authorization": f"Bearer: {secret}"},
    "X-Api-Key": lambda secret: {"X-Api-Key": secret},
    "Api-Key as a header": lambda secret: {"Api-Key": secret},
    "Apikey": lambda secret: {"Apikey": secret},
    "X-Auth-Token": lambda secret: {"X-Auth-Token": secret},
    "X-Access-Token": lambda secret: {"X-Access-Token": secret},
    "Proxy-Authorization": lambda secret: {"Proxy-Authorization": f"Bearer {secret}"},
    "X-Authorization": lambda secret: {"X-Authorization": f"Bearer {secret}"},
}
NO_CREDENTIALS: dict[str, dict[str, str]] = {
    "none": {},
    "an empty header": {"Authorization": ""},
    "the scheme alone": {"Authorization": "Bearer"},
    "the scheme alone, in lower case": {"Authorization": "bearer"},
    "the scheme and a space": {"Authorization": "Bearer "},  # an unset variable: "Bearer $ONE_API_KEY"
    "the scheme and spaces": {"Authorization": " Bearer    "},
    "the scheme and a tab": {"Authorization": "Bearer\t"},
    "a CSRF token": {"X-CSRFToken": "0" * 32},
}
SEND_IT_AS = 'Send it as "Authorization: Bearer one_…". See http://testserver/docs/api-keys/.'


@pytest.mark.parametrize("headers", NO_CREDENTIALS.values(), ids=NO_CREDENTIALS.keys())
def test_a_request_without_credentials_gets_a_challenge_and_is_no_failed_authentication(
    headers: dict[str, str], api: Api, settings: Any
) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 1

    for _ in range(3):
        response = Api(**headers).get("/me")
        assert response.status_code == 401
        assert response.json() == {"code": 401, "message": f"No API key was sent. {SEND_IT_AS}"}
        assert response["WWW-Authenticate"] == CHALLENGE
    assert Api(**headers).get("/openapi.json").status_code == 200


@pytest.mark.parametrize("headers", OTHER_CREDENTIALS.values(), ids=OTHER_CREDENTIALS.keys())
def test_a_key_that_is_not_a_bearer_token_gets_a_challenge_that_shows_the_header(
    headers: Callable[[str], dict[str, str]], secret: str, workspace: Workspace
) -> None:
    for credentials in (secret, keys.generate().secret, "nonsense"):
        response = Api(**headers(credentials)).get("/me")

        assert response.status_code == 401
        assert response.json() == {"code": 401, "message": f"The API key was not sent as a bearer token. {SEND_IT_AS}"}
        assert response["WWW-Authenticate"] == CHALLENGE
    assert is_quota_unused(workspace)


@pytest.mark.parametrize("name", ["access_token", "token", "api_key", "apiKey", "api-key", "key", "Authorization"])
def test_a_key_in_the_url_gets_a_challenge_that_shows_the_header(name: str, secret: str) -> None:
    for query in (f"{name}={secret}", f"limit=1&{name}=nonsense", f"{name}=" + "&a=" * 2000):
        response = Api().get("/me", QUERY_STRING=query)

        assert response.status_code == 401
        assert response.json() == {"code": 401, "message": f"The API key was not sent as a bearer token. {SEND_IT_AS}"}
        assert response["WWW-Authenticate"] == CHALLENGE


def test_a_key_in_a_cookie_is_not_read(secret: str) -> None:
    response = Api(Cookie=f"access_token={secret}; Authorization=Bearer {secret}").get("/me")

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE


def test_a_key_in_a_json_body_is_not_read(secret: str) -> None:
    response = Api().post("/workspaces/current/tasks", {"access_token": secret, "title": "Ship"})

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE


def test_a_key_in_a_form_is_not_read(secret: str) -> None:
    """RFC 6750 section 2.2 allows it; we don't."""
    response = Api().request(
        "POST",
        "/workspaces/current/tasks",
        data=f"access_token={secret}&title=Ship",
        content_type="application/x-www-form-urlencoded",
    )

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE


def test_an_invented_secret_for_a_real_key_id_never_reaches_argon2(api_key: ApiKey) -> None:
    """The stored hash is the invented secret's, so Argon2 would accept it and add a proof."""
    invented = well_formed(api_key.current_secret.key_id, "A" * 43)
    StoredSecret.objects.filter(api_key=api_key.pk).update(hash=hashing.hash_secret(invented))

    assert Api(invented).get("/me").status_code == 401
    assert len(hashing.proofs) == 0


def test_a_matching_fingerprint_is_not_enough_without_the_hash(api_key: ApiKey) -> None:
    invented = well_formed(api_key.current_secret.key_id, "A" * 43)
    StoredSecret.objects.filter(api_key=api_key.pk).update(fingerprint=hashing.fingerprint(invented))

    assert Api(invented).get("/me").status_code == 401


def test_a_proof_is_invalid_once_the_hash_has_changed(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    StoredSecret.objects.filter(api_key=api_key.pk).update(hash=hashing.hash_secret(keys.generate().secret))

    assert api.get("/me").status_code == 401


@pytest.mark.parametrize("hash_", ["", "garbage", "$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAA", "pbkdf2_sha256$1$a$b"])
def test_a_damaged_hash_rejects_the_key_like_a_wrong_secret(hash_: str, api: Api, api_key: ApiKey) -> None:
    StoredSecret.objects.filter(api_key=api_key.pk).update(hash=hash_)

    response = api.get("/me")

    assert (response.status_code, response.content) == (401, REJECTED)


def test_a_key_is_rejected_from_the_first_request_after_its_revocation(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    api_key.revoke(by=BY_TEST)

    assert (api.get("/me").status_code, api.get("/me").content) == (401, REJECTED)


def test_a_key_is_rejected_from_the_moment_of_its_expiry(api: Api, api_key: ApiKey) -> None:
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now() + timedelta(minutes=1))
    assert api.get("/me").status_code == 200

    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())

    assert (api.get("/me").status_code, api.get("/me").content) == (401, REJECTED)


def test_both_secrets_of_a_rotated_key_work_until_the_overlap_ends(known: Keys) -> None:
    assert [Api(secret).get("/me").status_code for secret in (known.previous, known.current)] == [200, 200]

    StoredSecret.objects.filter(key_id=known.previous[ID]).update(ends_at=timezone.now())

    response = Api(known.previous).get("/me")
    assert (response.status_code, response.content) == (401, REJECTED)
    assert not {"Deprecation", "Sunset", "Link"} & set(response.headers)
    assert Api(known.current).get("/me").status_code == 200
