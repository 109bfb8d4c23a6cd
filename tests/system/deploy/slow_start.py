"""The application, for granian. While the file SLOW_START exists, a worker takes 4 s longer to start."""

import os
import time
from pathlib import Path

if Path(os.environ["SLOW_START"]).exists():
    time.sleep(4)  # longer than granian's default `--respawn-interval`

from onehorizon.wsgi import application  # noqa: F401
