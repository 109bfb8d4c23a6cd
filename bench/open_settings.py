"""The settings without authentication and quota, to measure what the two cost."""

from onehorizon.settings import *  # noqa: F403

ROOT_URLCONF = "bench.open_urls"
