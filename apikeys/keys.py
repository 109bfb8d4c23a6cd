"""The format of an API key: generate, parse, mask. No database, no settings. See docs/architecture.md.

    one_8kJ2mQ4xZt7c_Vq…43 characters…xR3nB0aK
    ─┬─ ─────┬────── ──────────┬──────── ──┬───
    prefix key id            secret     checksum

All parts are base62: a public key id of 12 characters, a secret of 43 (256 bits from the operating system's CSPRNG),
and a checksum of 6 (CRC-32 of everything before it).
"""

import re
import secrets
import zlib
from typing import NamedTuple

PREFIX = "one"
KEY_ID_LENGTH = 12
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

PATTERN = re.compile(
    rf"{PREFIX}_(?P<key_id>[0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
)
_BEGINNING = re.compile(rf"{PREFIX}_(?P<key_id>[0-9A-Za-z]{{{KEY_ID_LENGTH}}})_")
KEY_ID_PATTERN = re.compile(rf"[0-9A-Za-z]{{{KEY_ID_LENGTH}}}")
MASKED_PATTERN = re.compile(rf"{PREFIX}_(?P<key_id>[0-9A-Za-z]{{{KEY_ID_LENGTH}}})_(…|\.\.\.|\*+)?")


class GeneratedKey(NamedTuple):
    key_id: str
    secret: str  # the full bearer string

    def __repr__(self) -> str:
        return f"<GeneratedKey {mask(self.key_id)}>"


def generate() -> GeneratedKey:
    """Return a new random key id and secret."""
    key_id = "".join(secrets.choice(ALPHABET) for _ in range(KEY_ID_LENGTH))
    body = f"{PREFIX}_{key_id}_{_base62(secrets.randbits(256), SECRET_LENGTH)}"
    return GeneratedKey(key_id, body + checksum(body))


def parse(text: str) -> str | None:
    """Return the key id of a well-formed bearer string, or None. Does not check whether the key exists."""
    match = PATTERN.fullmatch(text)
    if match is None or text[-CHECKSUM_LENGTH:] != checksum(text[:-CHECKSUM_LENGTH]):
        return None
    return match["key_id"]


def find(text: str) -> str | None:
    """Return the first bearer string in `text`, such as a line of a log or of a configuration file, or None."""
    match = PATTERN.search(text)
    return match[0] if match else None


def key_id_of(secret: str) -> str:
    """Return the key id of a bearer string without checking its format: faster than `parse`."""
    return secret[len(PREFIX) + 1 :][:KEY_ID_LENGTH]


def claimed_key_id(text: str) -> str | None:
    """Return the key id of a key that is truncated or mistyped after it, or None."""
    match = _BEGINNING.match(text)
    return match["key_id"] if match else None


def mask(key_id: str) -> str:
    """Return the masked form, which is safe to show: `one_8kJ2mQ4xZt7c_…`."""
    return f"{PREFIX}_{key_id}_…"


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` in base62, padded with zeros to 6 characters."""
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
