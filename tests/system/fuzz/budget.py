"""How much is tried: a little, the same each time, with the rest of the tests; much, and new, by `make fuzz`."""

import os
import random

from hypothesis import HealthCheck, settings

LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("FUZZ_SEED") or (random.randrange(2**32) if LONG else 1))  # noqa: S311, not a secret

# The database goes on from example to example: what is asked for depends on none of what was there before.
tried = settings(
    max_examples=1_000 if LONG else 60,
    derandomize=not LONG,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
