"""How a secret is stored and checked: a fingerprint, an Argon2id hash, and a proof in memory.

The fingerprint and the proof keep nearly all requests away from Argon2. See docs/architecture.md.
"""

import hashlib
import hmac
import os
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import TTLCache
from django.conf import settings

from core.metrics import count_proof, time_argon2

FINGERPRINT_BYTES = 8

# Argon2 is bound by the processor: more runs at once than processors only cost memory.
_argon2_runs = threading.BoundedSemaphore(os.cpu_count() or 1)


def fingerprint(secret: str) -> bytes:
    """The first 8 bytes of the SHA-256: enough to refuse a wrong secret, leaving 192 of 256 bits unknown."""
    return hashlib.sha256(secret.encode()).digest()[:FINGERPRINT_BYTES]


def has_fingerprint(secret: str, kept: bytes | memoryview) -> bool:
    return hmac.compare_digest(bytes(kept), fingerprint(secret))


def hash_secret(secret: str) -> str:
    """An Argon2id hash in PHC format, with the parameters that the settings name now."""
    with _argon2_runs, time_argon2():
        return _hasher().hash(secret)


def is_outdated(stored_hash: str) -> bool:
    """Whether `stored_hash` was made with other parameters than the settings name now."""
    return _hasher().check_needs_rehash(stored_hash)


def verify(secret: str, stored_hash: str) -> bool:
    """Whether `secret` made `stored_hash`: by its proof, else by Argon2id, whose success leaves a proof.

    Only call this for a secret whose fingerprint is right.
    """
    if proofs.holds(secret, stored_hash):
        count_proof("hit")
        return True
    with _argon2_runs:
        # Of many first requests that came at once, those that waited here find the first one's proof.
        if proofs.holds(secret, stored_hash):
            count_proof("hit")
            return True
        count_proof("miss")
        try:
            with time_argon2():
                _hasher().verify(stored_hash, secret)
        except (VerificationError, InvalidHashError):
            return False
        proofs.keep(secret, stored_hash)  # before the next one in the queue looks for it
    return True


def _hasher() -> PasswordHasher:
    return PasswordHasher(
        time_cost=settings.APIKEYS_ARGON2_TIME_COST,
        memory_cost=settings.APIKEYS_ARGON2_MEMORY_COST,
        parallelism=settings.APIKEYS_ARGON2_PARALLELISM,
    )


class Proofs:
    """Which stored hash each presented string was verified against, in this process.

    Strings are held as a keyed digest (BLAKE2, RFC 7693) under a key that never leaves the process, so nothing here is
    worth anything outside.
    A hash that changes in the database has no proof. At most `size` of them, each for `seconds` at most; the least
    recently used goes first.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._key = secrets.token_bytes(32)
        self._hashes: TTLCache[bytes, str] = TTLCache(size, seconds)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._hashes)

    def holds(self, secret: str, stored_hash: str) -> bool:
        return self.hash_of(secret) == stored_hash

    def hash_of(self, secret: str) -> str | None:
        """The hash that `secret` was verified against; to be asked for in the database, which may hold another now."""
        digest = self._digest(secret)
        try:
            with self._lock:
                return self._hashes[digest]
        except KeyError:
            return None

    def keep(self, secret: str, stored_hash: str) -> None:
        digest = self._digest(secret)
        with self._lock:
            self._hashes[digest] = stored_hash

    def clear(self) -> None:
        with self._lock:
            self._hashes.clear()

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode(), digest_size=32, key=self._key).digest()


proofs = Proofs(settings.APIKEYS_PROOFS_MAX, settings.APIKEYS_PROOF_SECONDS)
