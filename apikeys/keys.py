"""The format of an API key: generate, parse, mask. No database, no settings. See docs/architecture.md.

    one_8kJ2mQ4xZt7c_Vq…43 characters…xR3nB0aK
    ─┬─ ─────┬────── ──────────┬──────── ──┬───
    mark   key id            secret     checksum

Base62: 12 characters of public key id, 43 of secret (256 bits of the operating system's CSPRNG), and 6 of CRC-32 over
everything before them.
"""

import re
import secrets
import zlib
from typing import NamedTuple

MARK = "one"
KEY_ID_LENGTH = 12
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

PATTERN = re.compile(
    rf"{MARK}_(?P<key_id>[0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
)
KEY_ID_PATTERN = re.compile(rf"[0-9A-Za-z]{{{KEY_ID_LENGTH}}}")
MASKED_PATTERN = re.compile(rf"{MARK}_(?P<key_id>[0-9A-Za-z]{{{KEY_ID_LENGTH}}})_(…|\.\.\.|\*+)?")


class GeneratedKey(NamedTuple):
    key_id: str
    secret: str  # the whole bearer string

    def __repr__(self) -> str:
        return f"<GeneratedKey {mask(self.key_id)}>"


def generate() -> GeneratedKey:
    key_id = "".join(secrets.choice(ALPHABET) for _ in range(KEY_ID_LENGTH))
    body = f"{MARK}_{key_id}_{_base62(secrets.randbits(256), SECRET_LENGTH)}"
    return GeneratedKey(key_id, body + checksum(body))


def parse(text: str) -> str | None:
    """The key id of a well-formed bearer string; None for anything else. Says nothing about whether it is a key's."""
    match = PATTERN.fullmatch(text)
    if match is None or text[-CHECKSUM_LENGTH:] != checksum(text[:-CHECKSUM_LENGTH]):
        return None
    return match["key_id"]


def key_id_of(secret: str) -> str:
    """The key id of a bearer string that is known to be well-formed."""
    return secret[len(MARK) + 1 :][:KEY_ID_LENGTH]


def mask(key_id: str) -> str:
    """How lists show a key: `one_8kJ2mQ4xZt7c_…`."""
    return f"{MARK}_{key_id}_…"


def checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
