from django.db import migrations


def create_standard_tier(apps, schema_editor):
    apps.get_model("workspaces", "Tier").objects.create(
        name="standard", requests=200, seconds=900, burst_requests=40, burst_seconds=60
    )


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0001_initial")]

    operations = [migrations.RunPython(create_standard_tier, migrations.RunPython.noop)]
