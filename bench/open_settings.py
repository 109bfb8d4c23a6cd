"""Ours without authentication and quota: what both add is the difference."""

from onehorizon.settings import *  # noqa: F403

ROOT_URLCONF = "bench.open_urls"
