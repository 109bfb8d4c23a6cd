from django.contrib.auth.hashers import Argon2PasswordHasher


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with OWASP's parameters: 19 MiB and 1 lane per hash. Django's defaults are 100 MiB and 8 lanes."""

    time_cost = 2
    memory_cost = 19_456  # KiB
    parallelism = 1
