"""Saves the last use of 2,000 keys, as requests do once a minute for each key. The argument chooses the keys."""

import os
import sys
from datetime import timedelta

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

from apikeys.models import StoredSecret, stored_secrets  # noqa: E402

# Also for a last use that `bench.seed` has set to an hour ahead.
stored_secrets.LAST_USED_RESOLUTION = timedelta(hours=-2)
for number in range(int(sys.argv[1]), 1_000_000, 500):
    StoredSecret.objects.get(api_key=f"key_{number:026}").record_use("192.0.2.7")
