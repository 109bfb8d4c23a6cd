"""The settings of a server with views that fail, and with a short wait for SQLite's lock."""

from tests.system.collected_settings import *  # noqa: F403
from tests.system.collected_settings import DATABASES

ROOT_URLCONF = "tests.system.failing_urls"
if "timeout" in DATABASES["default"]["OPTIONS"]:
    DATABASES["default"]["OPTIONS"]["timeout"] = 1
