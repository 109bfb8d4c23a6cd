from django.contrib.auth.hashers import Argon2PasswordHasher

from core.argon2 import password_share


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with OWASP's parameters: 19 MiB and 1 lane per hash. Django's defaults are 100 MiB and 8 lanes.

    Hashes passwords and OAuth client secrets. Raises `TooBusy` if too many are being hashed.
    """

    time_cost = 2
    memory_cost = 19_456  # KiB
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with password_share.run():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with password_share.run():
            return super().verify(password, encoded)
