"""A server starts only if `collectstatic` has collected every static file of this release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from onehorizon.checks import require_static_files


def test_every_static_file_must_be_in_the_manifest(settings: Any, tmp_path: Path) -> None:
    backend = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": backend}}
    settings.STATIC_ROOT = str(tmp_path)
    call_command("collectstatic", interactive=False, verbosity=0)

    require_static_files()

    manifest = tmp_path / "staticfiles.json"
    content = json.loads(manifest.read_text())
    del content["paths"]["css/app.css"]  # as if this release had added it
    manifest.write_text(json.dumps(content))
    settings.STATIC_ROOT = str(tmp_path)  # reads the manifest again
    with pytest.raises(ImproperlyConfigured, match=r"\AStatic files are missing or old: run manage\.py collectstatic"):
        require_static_files()


def test_while_debug_is_on_no_file_is_collected() -> None:
    assert not hasattr(staticfiles_storage, "hashed_files")

    require_static_files()
