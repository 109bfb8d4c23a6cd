from django.db import migrations


class Migration(migrations.Migration):

    atomic = False

    dependencies = [("next_release", "0002_column")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY next_release_index ON workspaces_task (next_release)",
            "DROP INDEX CONCURRENTLY next_release_index",
        )
    ]
