import hashlib

from django.db import migrations


def digest_keys(apps, schema_editor):
    """Nobody is signed out: each session stays, under the digest of its key (core.sessions)."""
    sessions = apps.get_model("sessions", "Session").objects
    for key in list(sessions.values_list("session_key", flat=True)):
        sessions.filter(session_key=key).update(session_key=hashlib.sha256(key.encode()).hexdigest()[:40])


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0004_suspension"), ("sessions", "0001_initial")]

    operations = [migrations.RunPython(digest_keys, migrations.RunPython.noop)]
