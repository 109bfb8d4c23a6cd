from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("next_release", "0001_table")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE workspaces_task ADD COLUMN next_release integer",
            "ALTER TABLE workspaces_task DROP COLUMN next_release",
        )
    ]
