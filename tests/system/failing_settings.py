"""The settings of a server with views that fail or warn."""

from tests.system.collected_settings import *  # noqa: F403

ROOT_URLCONF = "tests.system.failing_urls"
