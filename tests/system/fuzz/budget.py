"""The number of cases: few, always the same, in the test suite; many, different each time, with `make fuzz`."""

import os
import random

from hypothesis import HealthCheck, settings

LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("FUZZ_SEED") or (random.randrange(2**32) if LONG else 1))  # noqa: S311, not a secret

# Examples of a test share one database. No request depends on rows of earlier examples.
fuzz_settings = settings(
    max_examples=1_000 if LONG else 60,
    derandomize=not LONG,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
