"""The format of the bearer string: generated keys parse, and keys with any changed character don't."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys import keys
from tests.processes import ROOT

# The checksums come from an independent, bit-by-bit CRC-32 (polynomial 0xEDB88320).
VECTORS = [
    ("one_8kJ2mQ4xZt7c_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "1w5fNb"),
    ("one_8kJ2mQ4xZt7c_123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh", "3XvdUf"),
    ("one_8kJ2mQ4xZt7c_23456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi", "05YqOr"),
]
GOOD = "".join(VECTORS[0])


def well_formed(key_id: str, secret: str) -> str:
    body = f"one_{key_id}_{secret}"
    return body + keys.checksum(body)


base62 = st.sampled_from(keys.ALPHABET)
# Not `keys.generate()`: a strategy that depends on other random numbers can't be repeated.
well_formed_keys = st.builds(
    well_formed, st.text(base62, min_size=12, max_size=12), st.text(base62, min_size=43, max_size=43)
)


@pytest.mark.parametrize(("body", "checksum"), VECTORS)
def test_the_checksum_is_crc_32_in_six_zero_padded_base62_digits(body: str, checksum: str) -> None:
    assert keys.checksum(body) == checksum
    assert keys.parse(body + checksum) == "8kJ2mQ4xZt7c"


def test_a_generated_key_has_the_documented_format() -> None:
    key_id, secret = keys.generate()

    assert re.fullmatch(r"one_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", secret)
    assert secret.startswith(f"one_{key_id}_")


def test_a_double_click_selects_the_whole_key() -> None:
    assert re.findall(r"\w+", f'export ONE_API_KEY="{GOOD}";', re.ASCII) == ["export", "ONE_API_KEY", GOOD]


def test_one_pattern_finds_a_key_in_a_leak() -> None:
    match = keys.PATTERN.search(f"https://ci.example/?token={GOOD}&job=7")

    assert match is not None
    assert match[0] == GOOD


def test_a_generated_key_parses_to_its_own_id() -> None:
    for key_id, secret in (keys.generate() for _ in range(100)):
        assert keys.parse(secret) == key_id


def test_ten_thousand_keys_have_ten_thousand_ids_and_secrets() -> None:
    generated = [keys.generate() for _ in range(10_000)]

    assert len({key.key_id for key in generated}) == 10_000
    assert len({key.secret for key in generated}) == 10_000


def test_every_position_of_id_and_secret_uses_the_whole_alphabet() -> None:
    generated = [keys.generate().secret for _ in range(2_000)]

    for position in [*range(4, 16), *range(18, 60)]:
        assert {secret[position] for secret in generated} == set(keys.ALPHABET)


@given(well_formed_keys, st.data())
def test_any_changed_character_is_rejected(key: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(key) - 1))
    replacement = data.draw((base62 | st.characters()).filter(lambda character: character != key[position]))

    assert keys.parse(key[:position] + replacement + key[position + 1 :]) is None


@given(well_formed_keys, st.integers(0, 64))
def test_two_swapped_adjacent_characters_are_rejected(key: str, position: int) -> None:
    first, second = key[position], key[position + 1]

    swapped = key[:position] + second + first + key[position + 2 :]

    assert keys.parse(swapped) == (keys.parse(key) if first == second else None)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_truncated_key_is_rejected_at_any_length(length: int) -> None:
    assert keys.parse(GOOD[:length]) is None
    assert keys.parse(GOOD[len(GOOD) - length :]) is None


@given(well_formed_keys, st.text(base62, min_size=1) | st.text(min_size=1))
def test_a_key_with_extra_characters_at_either_end_is_rejected(key: str, more: str) -> None:
    assert keys.parse(key + more) is None
    assert keys.parse(more + key) is None


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\0", "\u2028"])
def test_a_key_with_a_line_end_is_rejected(end: str) -> None:
    assert keys.parse(GOOD + end) is None


def test_digits_of_other_scripts_are_rejected() -> None:
    assert keys.parse(GOOD.replace("8", "٨")) is None


@given(st.text())
def test_any_other_text_is_rejected_without_an_exception(text: str) -> None:
    assert keys.parse(text) is None


def test_a_masked_key_shows_the_id_and_nothing_of_the_secret() -> None:
    key_id, secret = keys.generate()

    assert keys.mask(key_id) == f"one_{key_id}_…"
    assert keys.MASKED_PATTERN.fullmatch(keys.mask(key_id))
    assert keys.parse(keys.mask(key_id)) is None
    assert secret[17:] not in keys.mask(key_id)


def test_a_generated_key_that_is_printed_shows_no_secret() -> None:
    key = keys.generate()

    assert repr(key) == f"<GeneratedKey one_{key.key_id}_…>"
    assert key.secret[17:] not in f"{key} {key!r}"


def test_the_format_needs_no_django() -> None:
    script = "import sys, apikeys.keys; sys.exit('django' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
