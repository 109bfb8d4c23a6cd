"""The settings with a short time limit for bodies, so that tests need not wait."""

from onehorizon.settings import *  # noqa: F403

BODY_SECONDS = 1
