"""The bearer string, as arithmetic: what is generated parses, and nothing that differs by a character does."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys import keys
from tests.helpers import ROOT

# The checksums were made by a bit-by-bit CRC-32 (polynomial 0xEDB88320) apart from this code.
VECTORS = [
    ("one_8kJ2mQ4xZt7c_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "1w5fNb"),
    ("one_8kJ2mQ4xZt7c_123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh", "3XvdUf"),
    ("one_8kJ2mQ4xZt7c_23456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi", "05YqOr"),
]
GOOD = "".join(VECTORS[0])

base62 = st.sampled_from(keys.ALPHABET)
generated = st.builds(keys.generate)


@pytest.mark.parametrize(("body", "checksum"), VECTORS)
def test_the_checksum_is_crc_32_in_six_zero_padded_base62_digits(body: str, checksum: str) -> None:
    assert keys.checksum(body) == checksum
    assert keys.parse(body + checksum) == "8kJ2mQ4xZt7c"


def test_a_generated_key_has_the_documented_shape() -> None:
    key_id, secret = keys.generate()

    assert re.fullmatch(r"one_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", secret)
    assert secret.startswith(f"one_{key_id}_")


def test_a_double_click_selects_all_of_a_key() -> None:
    assert re.findall(r"\w+", f'export ONE_API_KEY="{GOOD}";', re.ASCII) == ["export", "ONE_API_KEY", GOOD]


def test_one_pattern_finds_a_key_in_a_leak() -> None:
    found = keys.PATTERN.search(f"https://ci.example/?token={GOOD}&job=7")

    assert found is not None
    assert found[0] == GOOD


@given(generated)
def test_a_generated_key_parses_to_its_own_id(key: keys.GeneratedKey) -> None:
    assert keys.parse(key.secret) == key.key_id


def test_ten_thousand_keys_have_as_many_ids_and_secrets() -> None:
    made = [keys.generate() for _ in range(10_000)]

    assert len({key.key_id for key in made}) == 10_000
    assert len({key.secret for key in made}) == 10_000


def test_every_place_of_id_and_secret_varies_over_the_alphabet() -> None:
    made = [keys.generate().secret for _ in range(2_000)]

    for place in [*range(4, 16), *range(18, 60)]:
        assert {secret[place] for secret in made} == set(keys.ALPHABET)


@given(generated, st.data())
def test_any_changed_character_is_refused(key: keys.GeneratedKey, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(key.secret) - 1))
    replacement = data.draw((base62 | st.characters()).filter(lambda character: character != key.secret[place]))

    assert keys.parse(key.secret[:place] + replacement + key.secret[place + 1 :]) is None


@given(generated, st.integers(0, 64))
def test_two_swapped_neighbours_are_refused(key: keys.GeneratedKey, place: int) -> None:
    first, second = key.secret[place], key.secret[place + 1]

    swapped = key.secret[:place] + second + first + key.secret[place + 2 :]

    assert keys.parse(swapped) == (key.key_id if first == second else None)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_cut_key_is_refused_wherever_it_is_cut(length: int) -> None:
    assert keys.parse(GOOD[:length]) is None
    assert keys.parse(GOOD[len(GOOD) - length :]) is None


@given(generated, st.text(base62, min_size=1) | st.text(min_size=1))
def test_an_extended_key_is_refused_at_either_end(key: keys.GeneratedKey, more: str) -> None:
    assert keys.parse(key.secret + more) is None
    assert keys.parse(more + key.secret) is None


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\0", "\u2028"])
def test_a_line_end_is_no_part_of_a_key(end: str) -> None:
    assert keys.parse(GOOD + end) is None


def test_digits_of_other_scripts_are_no_base62() -> None:
    assert keys.parse(GOOD.replace("8", "٨")) is None


@given(st.text())
def test_whatever_else_is_sent_is_refused_without_an_error(text: str) -> None:
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
