"""The client IP comes from trusted proxies only; failed authentications are limited per client IP."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import RequestFactory
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey
from core.client_ip import client_ip
from core.logs import LineFormatter
from tests.helpers import BY_TEST, Api

pytestmark = pytest.mark.django_db

PROXY = "10.0.0.7"
CLIENT = "203.0.113.7"


@pytest.fixture
def _behind_proxies(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "2001:db8:ffff::/48")]


def recorded_ip(api: Api, api_key: ApiKey, peer: str, forwarded: str | None) -> str | None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert api.get("/me", headers=headers, REMOTE_ADDR=peer).status_code == 200
    api_key.refresh_from_db()
    assert api_key.current_secret.last_used_at is not None
    return api_key.current_secret.last_used_from


@pytest.mark.parametrize("forwarded", [None, "", CLIENT, f"{CLIENT}, 10.0.0.8", "garbage"])
def test_without_trusted_proxies_the_peer_is_the_client(forwarded: str | None, api: Api, api_key: ApiKey) -> None:
    assert recorded_ip(api, api_key, PROXY, forwarded) == PROXY


@pytest.mark.usefixtures("_behind_proxies")
@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # well-formed
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"  {CLIENT}  ", CLIENT),
        (PROXY, f"{CLIENT}, 10.1.1.1", CLIENT),
        (PROXY, f"{CLIENT},10.1.1.1,10.2.2.2", CLIENT),
        ("2001:db8:ffff::1", "2001:db8:1::7", "2001:db8:1::7"),
        (PROXY, "2001:DB8:1:0::7", "2001:db8:1::7"),
        # with the client's port, in brackets, in quotes
        (PROXY, f"{CLIENT}:51234", CLIENT),
        (PROXY, f"{CLIENT}:0", CLIENT),
        (PROXY, f" {CLIENT}:51234 , 10.1.1.1:443", CLIENT),
        (PROXY, f"198.51.100.1:51234, {CLIENT}:51234, 10.1.1.1:443", CLIENT),
        (PROXY, "[2001:db8:1::7]", "2001:db8:1::7"),
        (PROXY, "[2001:db8:1::7]:51234", "2001:db8:1::7"),
        (PROXY, "[2001:DB8:1:0::7]:51234, [2001:db8:ffff::1]:443", "2001:db8:1::7"),
        (PROXY, f'"{CLIENT}"', CLIENT),
        (PROXY, f'"{CLIENT}:51234"', CLIENT),
        (PROXY, '"[2001:db8:1::7]"', "2001:db8:1::7"),
        (PROXY, '"[2001:db8:1::7]:51234", 10.1.1.1', "2001:db8:1::7"),
        # with leading zeros, which mean the same only in IPv6
        (PROXY, "2001:0db8:0001::0007", "2001:db8:1::7"),
        # with a zone, which means nothing on this machine
        (PROXY, "fe80::1%eth0", "fe80::1"),
        (PROXY, "[fe80::1%25eth0]:51234", "fe80::1"),
        # IPv4-mapped IPv6
        (PROXY, f"[::ffff:{CLIENT}]:51234", CLIENT),
        (PROXY, f"::ffff:{CLIENT}%eth0", CLIENT),
        ("::ffff:10.0.0.7", CLIENT, CLIENT),
        (PROXY, f"::ffff:{CLIENT}", CLIENT),
        (f"::ffff:{CLIENT}", None, CLIENT),
        # forged: the client's own entries come before the proxy's
        (PROXY, f"198.51.100.1, {CLIENT}", CLIENT),
        (PROXY, f"10.9.9.9, {CLIENT}", CLIENT),
        (PROXY, f"127.0.0.1, {CLIENT}, 10.1.1.1", CLIENT),
        (PROXY, f"garbage, {CLIENT}", CLIENT),
        (PROXY, "198.51.100.1, " * 500 + CLIENT, CLIENT),
        # from an untrusted peer: the header is ignored
        (CLIENT, "198.51.100.1", CLIENT),
        (CLIENT, f"198.51.100.1, {PROXY}", CLIENT),
        ("2001:db8:1::7", "198.51.100.1", "2001:db8:1::7"),
        ("11.0.0.7", "198.51.100.1", "11.0.0.7"),
        # no untrusted hop, or a malformed one: the last trusted hop that was read, from right to left
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, ",", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, "203.0.113.7:", PROXY),
        (PROXY, "203.0.113.7:https", PROXY),
        (PROXY, "203.0.113.7:51234:8", PROXY),
        (PROXY, "203.0.113.7:512345", PROXY),
        (PROXY, "[203.0.113.7]", PROXY),
        (PROXY, "[203.0.113.7]:443", PROXY),
        (PROXY, "[2001:db8:1::7", PROXY),
        (PROXY, "2001:db8:1::7]", PROXY),
        (PROXY, "[2001:db8:1::7]443", PROXY),
        (PROXY, "[2001:db8:1::7]:", PROXY),
        (PROXY, "[[2001:db8:1::7]]", PROXY),
        (PROXY, '"203.0.113.7', PROXY),
        (PROXY, '""203.0.113.7""', PROXY),
        (PROXY, '"', PROXY),
        (PROXY, "'203.0.113.7'", PROXY),
        (PROXY, "for=203.0.113.7", PROXY),
        (PROXY, "_hidden", PROXY),
        (PROXY, "unix:", PROXY),
        (PROXY, "203.0.113.007", PROXY),
        (PROXY, "0313.0.113.7", PROXY),
        (PROXY, "203.0.113.7/32", PROXY),
        (PROXY, "203.0.113.7%eth0", PROXY),
        (PROXY, "2001:db8:1::7%", PROXY),
        (PROXY, "٢٠٣.0.113.7", PROXY),
        (PROXY, f"{CLIENT}:51234, unknown, 10.1.1.1:443", "10.1.1.1"),
        # an empty entry: the proxy that wrote it did not know the client
        (PROXY, f"{CLIENT},", PROXY),
        (PROXY, f"{CLIENT}, ,10.1.1.1", "10.1.1.1"),
        (PROXY, "203.0.113.256", PROXY),
        (PROXY, "203.0.113", PROXY),
        (PROXY, "3405803783", PROXY),
        (PROXY, "203.0.113.7\0", PROXY),
        (PROXY, "'; DROP TABLE apikeys_apikey; --", PROXY),
        (PROXY, f"{CLIENT}, nonsense", PROXY),
        (PROXY, f"{CLIENT}, nonsense, 10.1.1.1", "10.1.1.1"),
        (PROXY, "10.3.3.3, 10.2.2.2", "10.3.3.3"),
    ],
)
def test_behind_trusted_proxies_the_client_is_the_last_untrusted_hop(
    peer: str, forwarded: str | None, client: str, api: Api, api_key: ApiKey
) -> None:
    assert recorded_ip(api, api_key, peer, forwarded) == client


@pytest.mark.usefixtures("_behind_proxies")
def test_a_client_ip_is_stored_without_its_zone(api: Api, api_key: ApiKey) -> None:
    assert recorded_ip(api, api_key, "fe80::1%eth0", None) == "fe80::1"


# ---- entries that can't be parsed ----


@pytest.fixture
def _nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.client_ip._reported", set())


@pytest.mark.usefixtures("_behind_proxies", "_nothing_reported")
def test_an_entry_that_can_not_be_parsed_is_logged_once_for_each_proxy(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for peer, forwarded in [
        (PROXY, "unknown"),
        (PROXY, "unknown"),
        (PROXY, "_hidden"),
        (PROXY, f"{CLIENT}, unix:, 10.1.1.1"),
        (PROXY, CLIENT),
        (PROXY, ""),
        (CLIENT, "unknown"),
    ]:
        api.get("/me", headers={"X-Forwarded-For": forwarded}, REMOTE_ADDR=peer)

    assert [record.getMessage() for record in caplog.records if record.name == "onehorizon.client_ip"] == [
        "X-Forwarded-For from the trusted proxy 10.0.0.7 has an entry that is not an IP address: 'unknown'",
        "X-Forwarded-For from the trusted proxy 10.1.1.1 has an entry that is not an IP address: 'unix:'",
    ]


@pytest.mark.usefixtures("_behind_proxies", "_nothing_reported")
def test_a_logged_entry_is_short_printable_and_without_secrets(
    api: Api, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [secret, "\r\nforged line \x1b[31m\u202e\udcff", "x" * 5000]
    for number, entry in enumerate(entries):
        request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR=entry, REMOTE_ADDR=f"10.0.0.{number}")
        assert client_ip(request) == f"10.0.0.{number}"

    lines = [LineFormatter().format(record) for record in caplog.records if record.name == "onehorizon.client_ip"]
    assert len(lines) == 3
    assert all(line.isprintable() and line.replace("…", "").isascii() for line in lines)
    assert not [line for line in lines if secret[20:] in line or len(line) > 250]


@pytest.mark.usefixtures("_behind_proxies", "_nothing_reported")
def test_the_proxies_that_are_logged_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(150):
        client_ip(RequestFactory().get("/", HTTP_X_FORWARDED_FOR="unknown", REMOTE_ADDR=f"10.0.1.{number}"))

    assert len([record for record in caplog.records if record.name == "onehorizon.client_ip"]) == 100


# ---- the limit on failed authentications ----


@pytest.fixture
def _three_failures(settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 3


def fail(peer: str, times: int = 1, forwarded: str = "") -> list[int]:
    api = Api("one_wrong", **{"X-Forwarded-For": forwarded})
    return [api.get("/me", REMOTE_ADDR=peer).status_code for _ in range(times)]


@pytest.mark.usefixtures("_three_failures", "_frozen_clock")
def test_too_many_failures_of_a_client_ip_are_429() -> None:
    assert fail(CLIENT, 3) == [401] * 3

    limited = Api("one_wrong").get("/me", REMOTE_ADDR=CLIENT)

    seconds = int(limited["Retry-After"])
    assert 60 <= seconds <= 75
    assert limited.status_code == 429
    assert limited.json() == {
        "code": 429,
        "message": f"too many failed authentications, retry in {seconds} seconds",
    }
    assert not limited.has_header("WWW-Authenticate")


def test_the_default_limit_is_a_hundred_and_twenty_a_minute() -> None:
    assert fail(CLIENT, 121) == [401] * 120 + [429]


@pytest.mark.usefixtures("_three_failures")
def test_the_limit_reveals_nothing_about_the_key(api_key: ApiKey, secret: str) -> None:
    fail(CLIENT, 3)
    api_key.revoke(by=BY_TEST)

    responses = [Api(text).get("/me", REMOTE_ADDR=CLIENT) for text in ("one_wrong", secret, secret[:-1], "one_")]

    assert [response.status_code for response in responses] == [429] * 4
    assert len({response.json()["message"].partition(", retry")[0] for response in responses}) == 1


@pytest.mark.usefixtures("_three_failures")
def test_another_client_ip_is_not_affected() -> None:
    assert fail(CLIENT, 4) == [401, 401, 401, 429]
    assert fail("203.0.113.8") == [401]


@pytest.mark.usefixtures("_three_failures")
def test_a_valid_key_from_the_same_client_ip_is_not_affected(api: Api) -> None:
    fail(CLIENT, 4)

    assert [api.get("/me", REMOTE_ADDR=CLIENT).status_code for _ in range(5)] == [200] * 5
    assert fail(CLIENT) == [429]


@pytest.mark.usefixtures("_three_failures")
def test_a_request_without_a_key_is_not_counted() -> None:
    assert [Api().get("/me", REMOTE_ADDR=CLIENT).status_code for _ in range(5)] == [401] * 5
    assert fail(CLIENT) == [401]


@pytest.mark.usefixtures("_three_failures")
def test_a_success_is_not_counted(api: Api) -> None:
    for _ in range(5):
        api.get("/me", REMOTE_ADDR=CLIENT)

    assert fail(CLIENT, 4) == [401, 401, 401, 429]


@pytest.mark.usefixtures("_three_failures")
def test_ipv6_clients_of_one_64_network_share_a_limit() -> None:
    client_ips = [f"2001:db8:1:2::{number}" for number in range(1, 4)]

    assert [fail(client_ip) for client_ip in client_ips] == [[401]] * 3
    assert fail("2001:db8:1:2:ffff:ffff:ffff:ffff") == [429]
    assert fail("2001:db8:1:3::1") == [401]


@pytest.mark.usefixtures("_three_failures")
def test_the_64_networks_of_one_48_network_share_a_limit_that_is_eight_times_as_large(api: Api) -> None:
    statuses = [fail(f"2001:db8:1:{number:x}::1")[0] for number in range(25)]

    assert statuses == [401] * 24 + [429]
    assert fail("2001:db8:2::1") == [401]
    assert api.get("/me", REMOTE_ADDR="2001:db8:1:ff::1").status_code == 200


@pytest.mark.usefixtures("_three_failures")
def test_one_64_network_can_not_exhaust_the_limit_of_its_48_network() -> None:
    assert fail("2001:db8:1:2::1", 30) == [401] * 3 + [429] * 27

    assert fail("2001:db8:1:3::1", 3) == [401] * 3


@pytest.mark.usefixtures("_three_failures")
def test_a_failure_counts_for_a_minute_and_retry_after_is_exact(time_machine: TimeMachineFixture) -> None:
    """A failure counts until the end of its slot of 15 seconds, and a minute longer."""
    start = datetime(2030, 5, 1, 12, 0, 3, tzinfo=UTC)

    def fail_at(seconds: int, times: int = 1) -> list[int]:
        time_machine.move_to(start + timedelta(seconds=seconds), tick=False)
        return fail(CLIENT, times)

    assert [fail_at(seconds) for seconds in (0, 20, 40)] == [[401]] * 3
    assert fail_at(41, 30) == [429] * 30
    assert Api("one_wrong").get("/me", REMOTE_ADDR=CLIENT)["Retry-After"] == "31"

    assert fail_at(71) == [429]
    assert fail_at(72, 2) == [401, 429]
    assert fail_at(147, 4) == [401, 401, 401, 429]


@pytest.mark.usefixtures("_three_failures")
def test_an_ipv4_client_and_its_mapped_ipv6_form_are_the_same() -> None:
    fail(CLIENT, 3)

    assert fail(f"::ffff:{CLIENT}") == [429]
    assert fail("::ffff:203.0.113.8") == [401]


@pytest.mark.usefixtures("_three_failures", "_behind_proxies")
def test_clients_behind_one_proxy_have_separate_limits() -> None:
    assert fail(PROXY, 4, forwarded=CLIENT) == [401, 401, 401, 429]
    assert fail(PROXY, forwarded="203.0.113.8") == [401]


@pytest.mark.usefixtures("_three_failures", "_behind_proxies")
def test_a_client_behind_a_proxy_that_sends_ports_has_one_limit_of_its_own() -> None:
    ports = [fail(PROXY, forwarded=f"{CLIENT}:{port}") for port in range(50_000, 50_004)]

    assert ports == [[401], [401], [401], [429]]
    assert fail(PROXY, forwarded="203.0.113.8:50000") == [401]


@pytest.mark.usefixtures("_three_failures", "_behind_proxies")
def test_a_forged_hop_does_not_escape_the_limit() -> None:
    forged = [fail(PROXY, forwarded=f"198.51.100.{number}, {CLIENT}") for number in range(4)]

    assert forged == [[401], [401], [401], [429]]


@pytest.mark.usefixtures("_three_failures")
def test_clients_without_an_ip_are_limited_too() -> None:
    assert fail("", 4) == [401, 401, 401, 429]
