"""The settings with static files in the directory COLLECTED, so that tests write nothing into the checkout."""

import os
from pathlib import Path

from onehorizon.settings import *  # noqa: F403

STATIC_ROOT = Path(os.environ["COLLECTED"])
