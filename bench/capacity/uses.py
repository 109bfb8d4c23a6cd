"""Saves the last use of 2,000 keys, as requests do once a minute for each key. The argument chooses the keys."""

import os
import sys
from datetime import timedelta

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

from apikeys import models  # noqa: E402

models.LAST_USED_RESOLUTION = timedelta(hours=-2)  # also for a last use that `bench.seed` has set to an hour ahead
for number in range(int(sys.argv[1]), 1_000_000, 500):
    models.ApiKey.objects.get(pk=f"key_{number:026}").record_use("192.0.2.7")
