"""A pytest plugin that is loaded before the settings, which need an explicit DEBUG if DATABASE_URL is PostgreSQL's."""

import os

os.environ.setdefault("DEBUG", "on")
