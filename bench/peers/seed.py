"""Prints, as JSON, a credential for each of the other packages and the ids under which their throttles count."""

import json
import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from knox.models import AuthToken  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402

from workspaces.models import User  # noqa: E402

call_command("migrate", verbosity=0)
owner = User.objects.get(email="owner@bench.example")
_, api_key = APIKey.objects.create_key(name="bench")
_, token = AuthToken.objects.create(owner)
print(json.dumps({"apiKey": api_key, "knox": token, "throttled": [api_key[:8], owner.pk]}))
