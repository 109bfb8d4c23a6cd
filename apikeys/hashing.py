"""Hash and verify secrets: fingerprint, Argon2id hash, and proofs of verified secrets, which save Argon2 runs.

See "Secrets at rest" in docs/architecture.md.
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
from django.utils.crypto import salted_hmac

from core.metrics import count_proof, time_argon2

FINGERPRINT_BYTES = 8

# Argon2 is CPU-bound: more concurrent runs than processors would only take memory.
_argon2_runs = threading.BoundedSemaphore(os.cpu_count() or 1)


def fingerprint(secret: str) -> bytes:
    """Return the first 8 bytes of the secret's SHA-256, which leave 192 of its 256 bits unknown."""
    return hashlib.sha256(secret.encode()).digest()[:FINGERPRINT_BYTES]


def has_fingerprint(secret: str, stored: bytes | memoryview) -> bool:
    return hmac.compare_digest(bytes(stored), fingerprint(secret))


def hash_secret(secret: str) -> str:
    """Return an Argon2id hash in PHC format, with the parameters of the settings."""
    with _argon2_runs, time_argon2():
        return _hasher().hash(secret)


def is_outdated(stored_hash: str) -> bool:
    """Return whether `stored_hash` has other parameters than the settings."""
    return _hasher().check_needs_rehash(stored_hash)


def verify(secret: str, stored_hash: str, stored_proof: bytes | memoryview | None = None) -> bool:
    """Return whether `stored_hash` is the hash of `secret`. Runs Argon2id if there is no proof, and adds the proof.

    `stored_proof` is the shared proof in the key's row, or None. Call this only after the fingerprint matched, because
    Argon2id is slow.
    """
    if proofs.has(secret, stored_hash):
        count_proof("hit")
        return True
    if stored_proof is not None and _is_shared_proof(stored_proof, secret, stored_hash):
        count_proof("shared")
        proofs.add(secret, stored_hash)
        return True
    with _argon2_runs:
        # A concurrent request may have added the proof while this one waited.
        if proofs.has(secret, stored_hash):
            count_proof("hit")
            return True
        count_proof("miss")
        try:
            with time_argon2():
                _hasher().verify(stored_hash, secret)
        except (VerificationError, InvalidHashError):
            return False
        proofs.add(secret, stored_hash)  # before the semaphore is released, so that the next request finds it
    return True


def shared_proof(secret: str, stored_hash: str) -> bytes:
    """Return the proof, to be stored with the key, that `secret` was verified against `stored_hash`.

    It spares the other processes the Argon2 run. It is an HMAC-SHA-256 with a key that is derived from `SECRET_KEY`, so
    a copy of the database is not enough to create or check one.
    """
    return _shared_proof(secret, stored_hash, settings.SECRET_KEY)


def _is_shared_proof(proof: bytes | memoryview, secret: str, stored_hash: str) -> bool:
    """Return whether `proof` is valid, also if it was created with an earlier `SECRET_KEY` that is still a fallback."""
    secret_keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    expected = [_shared_proof(secret, stored_hash, secret_key) for secret_key in secret_keys]
    return any(hmac.compare_digest(bytes(proof), candidate) for candidate in expected)


def _shared_proof(secret: str, stored_hash: str, secret_key: str) -> bytes:
    text = f"{secret} {stored_hash}"  # a secret contains no space
    return salted_hmac("apikeys.hashing.shared_proof", text, secret_key, algorithm="sha256").digest()


def _hasher() -> PasswordHasher:
    return PasswordHasher(
        time_cost=settings.APIKEYS_ARGON2_TIME_COST,
        memory_cost=settings.APIKEYS_ARGON2_MEMORY_COST,
        parallelism=settings.APIKEYS_ARGON2_PARALLELISM,
    )


class Proofs:
    """A cache in this process: which stored hash each secret was verified against.

    Secrets are stored as keyed digests (BLAKE2, RFC 7693). The digest's random key never leaves the process, so the
    digests are useless outside it. Has at most `size` entries, drops the least recently used first, and drops every
    entry after `seconds`.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._key = secrets.token_bytes(32)
        self._hashes: TTLCache[bytes, str] = TTLCache(size, seconds)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._hashes)

    def has(self, secret: str, stored_hash: str) -> bool:
        return self.hash_of(secret) == stored_hash

    def hash_of(self, secret: str) -> str | None:
        """Return the hash that `secret` was verified against, or None. The database may have another hash by now."""
        digest = self._digest(secret)
        try:
            with self._lock:
                return self._hashes[digest]
        except KeyError:
            return None

    def add(self, secret: str, stored_hash: str) -> None:
        digest = self._digest(secret)
        with self._lock:
            self._hashes[digest] = stored_hash

    def clear(self) -> None:
        with self._lock:
            self._hashes.clear()

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode(), digest_size=32, key=self._key).digest()


proofs = Proofs(settings.APIKEYS_PROOFS_MAX, settings.APIKEYS_PROOF_SECONDS)
