"""Table 1: mutations of a good key. Each gets the same refusal, to the byte, so that none of them tells anything."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apikeys import hashing, keys
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Api, make_key
from workspaces import quota
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

REFUSED = b'{"code":401,"message":"The API key or access token is not valid."}'
INVALID_TOKEN = 'Bearer realm="onehorizon", error="invalid_token"'
CHALLENGE = 'Bearer realm="onehorizon"'


@dataclass(frozen=True)
class Keys:
    good: str
    second: str  # another good one, of the same workspace
    elsewhere: str  # a good one of another workspace
    revoked: str
    expired: str


@pytest.fixture
def made(secret: str, workspace: Workspace, elsewhere: Workspace) -> Keys:
    revoked, revoked_secret = make_key(workspace, "Revoked")
    revoked.revoke(by=BY_TEST)
    expired, expired_secret = make_key(workspace, "Expired", expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    return Keys(secret, make_key(workspace, "Second")[1], make_key(elsewhere)[1], revoked_secret, expired_secret)


def well_formed(key_id: str, secret: str) -> str:
    body = f"one_{key_id}_{secret}"
    return body + keys.checksum(body)


def other_letter(character: str) -> str:
    return "a" if character != "a" else "b"


ID = slice(4, 16)
SECRET = slice(17, 60)

MUTATIONS: dict[str, Callable[[Keys], str]] = {
    # changed
    "lower case": lambda made: made.good.lower(),
    "upper case": lambda made: made.good.upper(),
    "swapped case": lambda made: made.good.swapcase(),
    "another mark": lambda made: "two" + made.good[3:],
    "mark in capitals": lambda made: "ONE" + made.good[3:],
    "first letter of the id changed": lambda made: made.good[:4] + other_letter(made.good[4]) + made.good[5:],
    "a letter of the secret changed": lambda made: made.good[:30] + other_letter(made.good[30]) + made.good[31:],
    "last letter changed": lambda made: made.good[:-1] + other_letter(made.good[-1]),
    "wrong checksum": lambda made: made.good[:-6] + ("000000" if made.good[-6:] != "000000" else "000001"),
    "reversed": lambda made: made.good[::-1],
    # cut
    "nothing": lambda made: "",
    "the mark alone": lambda made: "one_",
    "the id alone": lambda made: made.good[ID],
    "id and separators": lambda made: made.good[:17],
    "masked": lambda made: made.good[:17] + "...",
    "without the mark": lambda made: made.good[4:],
    "without the checksum": lambda made: made.good[:-6],
    "without the first character": lambda made: made.good[1:],
    "without the last character": lambda made: made.good[:-1],
    "without separators": lambda made: made.good.replace("_", ""),
    # extended
    "one character more": lambda made: made.good + "A",
    "a checksum more": lambda made: made.good + keys.checksum(made.good),
    "one character before": lambda made: "A" + made.good,
    "twice in one": lambda made: made.good * 2,
    "twice, with a space": lambda made: f"{made.good} {made.good}",
    "two good keys, with a space": lambda made: f"{made.good} {made.second}",
    "two good keys, with a comma": lambda made: f"{made.good}, {made.second}",
    "as two headers are joined": lambda made: f"{made.good},Bearer {made.good}",
    "scheme twice": lambda made: f"Bearer {made.good}",
    "a parameter after it": lambda made: f'{made.good};realm="onehorizon"',
    "huge": lambda made: made.good + "A" * 100_000,
    "huge and well-formed nowhere": lambda made: "one_" * 25_000,
    # white space and wrapping
    "a space inside": lambda made: made.good[:20] + " " + made.good[20:],
    "a tab inside": lambda made: made.good[:20] + "\t" + made.good[20:],
    "a line end after it": lambda made: made.good + "\n.",
    "a no-break space after it": lambda made: made.good + "\xa0",
    "a no-break space before it": lambda made: "\xa0" + made.good,
    "a separator control after it": lambda made: made.good + "\x1f",
    "double quotes": lambda made: f'"{made.good}"',
    "single quotes": lambda made: f"'{made.good}'",
    "backquotes": lambda made: f"`{made.good}`",
    "angle brackets": lambda made: f"<{made.good}>",
    "percent-encoded": lambda made: made.good.replace("_", "%5F"),
    "base64": lambda made: base64.b64encode(made.good.encode()).decode(),
    # other characters
    "non-ASCII letter": lambda made: made.good[:20] + "é" + made.good[21:],
    "non-ASCII, as UTF-8 arrives": lambda made: made.good[:20] + "ö".encode().decode("latin-1") + made.good[22:],
    "full-width mark": lambda made: "\uff4f" + made.good[1:],
    "an Arabic digit": lambda made: made.good[:20] + "٣" + made.good[21:],
    "NUL inside": lambda made: made.good[:20] + "\0" + made.good[21:],
    "NUL after it": lambda made: made.good + "\0",
    "SQL": lambda made: f"{made.good}' OR '1'='1",
    "a wildcard": lambda made: "one_%_%",
    # well-formed, and nobody's
    "a made-up secret for a real id": lambda made: well_formed(made.good[ID], "A" * 43),
    "a real secret for a made-up id": lambda made: well_formed("0" * 12, made.good[SECRET]),
    "a real id in another case": lambda made: well_formed(made.good[ID].swapcase(), made.good[SECRET]),
    "a real secret in another case": lambda made: well_formed(made.good[ID], made.good[SECRET].swapcase()),
    "a real secret but its last letter": lambda made: well_formed(
        made.good[ID], made.good[SECRET][:-1] + other_letter(made.good[59])
    ),
    "an id and a secret never issued": lambda made: keys.generate().secret,
    "another key's secret spliced on": lambda made: made.good[:17] + made.second[17:],
    "another key's secret, checksum right": lambda made: well_formed(made.good[ID], made.second[SECRET]),
    "another workspace's secret, checksum right": lambda made: well_formed(made.good[ID], made.elsewhere[SECRET]),
    "an id of a revoked key with a live secret": lambda made: well_formed(made.revoked[ID], made.good[SECRET]),
    "all zeros": lambda made: well_formed("0" * 12, "0" * 43),
    # ended
    "revoked": lambda made: made.revoked,
    "expired": lambda made: made.expired,
    # other kinds of credentials
    "an OAuth-like token": lambda made: "mF_9.B5f-4.1JqM",
    "a JWT": lambda made: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3XzEifQ.",
    "an object's id": lambda made: "key_01jbx5w3f8q9r2t4v6y8z0a1c3",
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_every_mutation_of_a_good_key_is_refused_alike(
    mutation: Callable[[Keys], str], made: Keys, workspace: Workspace
) -> None:
    token = mutation(made)

    response = Api(Authorization=f"Bearer {token}").get("/me")

    assert response.status_code == 401
    assert response.content == REFUSED
    assert response["WWW-Authenticate"] == INVALID_TOKEN
    assert told_in_headers(response) == told_in_headers(Api(well_formed("1" * 12, "1" * 43)).get("/me"))
    assert nothing_counted(workspace)
    assert not ApiKey.objects.exclude(last_used_at=None).exists()


def told_in_headers(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.items() if name != "X-Request-Id"}


def nothing_counted(workspace: Workspace) -> bool:
    status = quota.status(workspace.pk, workspace.tier)
    return [window.remaining for window in status.windows] == [200, 40]


def test_the_unmutated_keys_are_all_good(made: Keys) -> None:
    assert [Api(secret).get("/me").status_code for secret in (made.good, made.second, made.elsewhere)] == [200] * 3


@pytest.mark.parametrize("path", ["/me", "/workspaces/current/tasks", "/workspaces/current", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_refusal_is_the_same_whatever_was_asked(method: str, path: str, made: Keys) -> None:
    response = Api(made.revoked).request(method, path, {})

    assert (response.status_code, response.content) == (401, REFUSED)


@pytest.mark.parametrize("header", ["Bearer", "bearer", "Bearer ", "Bearer    ", " Bearer "])
def test_the_scheme_without_a_key_is_an_invalid_one(header: str, made: Keys) -> None:
    response = Api(Authorization=header).get("/me")

    assert (response.status_code, response.content) == (401, REFUSED)
    assert response["WWW-Authenticate"] == INVALID_TOKEN


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_case_of_the_scheme_does_not_matter(scheme: str, secret: str) -> None:
    assert Api(Authorization=f"{scheme} {secret}").get("/me").status_code == 200


@pytest.mark.parametrize("around", ["{} ", " {}", "  {}  ", "{}\t"])
def test_white_space_around_the_header_value_is_no_part_of_it(around: str, secret: str) -> None:
    assert Api(Authorization=around.format(f"Bearer {secret}")).get("/me").status_code == 200


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


OTHER_CREDENTIALS: dict[str, Callable[[str], dict[str, str]]] = {
    "none": lambda secret: {},
    "an empty header": lambda secret: {"Authorization": ""},
    "Basic, key as the password": lambda secret: {"Authorization": basic("", secret)},
    "Basic, key as the user": lambda secret: {"Authorization": basic(secret, "")},
    "Token": lambda secret: {"Authorization": f"Token {secret}"},
    "Api-Key": lambda secret: {"Authorization": f"Api-Key {secret}"},
    "Digest": lambda secret: {"Authorization": f'Digest username="{secret}"'},
    "no scheme": lambda secret: {"Authorization": secret},
    "scheme and key in one": lambda secret: {"Authorization": f"Bearer{secret}"},
    "a colon after the scheme": lambda secret: {"Authorization": f"Bearer: {secret}"},
    "X-Api-Key": lambda secret: {"X-Api-Key": secret},
    "Proxy-Authorization": lambda secret: {"Proxy-Authorization": f"Bearer {secret}"},
    "X-Authorization": lambda secret: {"X-Authorization": f"Bearer {secret}"},
    "a cookie": lambda secret: {"Cookie": f"access_token={secret}; Authorization=Bearer {secret}"},
}


@pytest.mark.parametrize("headers", OTHER_CREDENTIALS.values(), ids=OTHER_CREDENTIALS.keys())
def test_whoever_sends_no_bearer_token_is_asked_for_one(
    headers: Callable[[str], dict[str, str]], secret: str, workspace: Workspace
) -> None:
    response = Api(**headers(secret)).get("/me")

    assert response.status_code == 401
    assert response.json() == {
        "code": 401,
        "message": 'No API key was sent. Send it as "Authorization: Bearer one_…". See http://testserver/docs/api-keys/.',
    }
    assert response["WWW-Authenticate"] == CHALLENGE
    assert nothing_counted(workspace)


@pytest.mark.parametrize("name", ["access_token", "token", "api_key", "key", "Authorization", "authorization"])
def test_a_key_in_the_url_is_not_read(name: str, secret: str) -> None:
    response = Api().get("/me", QUERY_STRING=f"{name}={secret}")

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE
    assert secret.encode() not in response.content


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


def test_a_made_up_secret_for_a_real_id_never_reaches_argon2(api_key: ApiKey) -> None:
    """Were it asked, Argon2 would say yes, and leave a proof: the stored hash is made to be the invented secret's."""
    invented = well_formed(api_key.key_id, "A" * 43)
    ApiKey.objects.filter(pk=api_key.pk).update(hash=hashing.hash_secret(invented))

    assert Api(invented).get("/me").status_code == 401
    assert len(hashing.proofs) == 0


def test_a_right_fingerprint_does_not_do_without_the_hash(api_key: ApiKey) -> None:
    invented = well_formed(api_key.key_id, "A" * 43)
    ApiKey.objects.filter(pk=api_key.pk).update(fingerprint=hashing.fingerprint(invented))

    assert Api(invented).get("/me").status_code == 401


def test_a_proof_does_not_outlive_the_hash_it_was_made_for(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    ApiKey.objects.filter(pk=api_key.pk).update(hash=hashing.hash_secret(keys.generate().secret))

    assert api.get("/me").status_code == 401


@pytest.mark.parametrize("hash_", ["", "garbage", "$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAA", "pbkdf2_sha256$1$a$b"])
def test_a_damaged_hash_refuses_like_a_wrong_key(hash_: str, api: Api, api_key: ApiKey) -> None:
    ApiKey.objects.filter(pk=api_key.pk).update(hash=hash_)

    response = api.get("/me")

    assert (response.status_code, response.content) == (401, REFUSED)


def test_a_key_is_refused_from_the_request_after_its_revocation_on(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    api_key.revoke(by=BY_TEST)

    assert (api.get("/me").status_code, api.get("/me").content) == (401, REFUSED)


def test_a_key_is_refused_from_the_moment_of_its_expiry_on(api: Api, api_key: ApiKey) -> None:
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now() + timedelta(minutes=1))
    assert api.get("/me").status_code == 200

    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())

    assert (api.get("/me").status_code, api.get("/me").content) == (401, REFUSED)
