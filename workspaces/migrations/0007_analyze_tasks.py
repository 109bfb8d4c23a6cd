from django.db import migrations


# A page of tasks needs statistics in which its workspace is not missing: without them, PostgreSQL may read all tasks of
# the workspace instead of a few. By default it updates them only after a tenth of the table has changed.
ANALYZE_SOONER = """
    ALTER TABLE workspaces_task SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000)
"""
ANALYZE_LATER = "ALTER TABLE workspaces_task RESET (autovacuum_analyze_scale_factor, autovacuum_analyze_threshold)"


def analyze_sooner(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(ANALYZE_SOONER)


def analyze_later(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(ANALYZE_LATER)


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0006_quota_storage'),
    ]

    operations = [
        migrations.RunPython(analyze_sooner, analyze_later),
    ]
