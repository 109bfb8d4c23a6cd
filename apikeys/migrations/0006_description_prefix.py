from django.db import migrations


def create_index(apps, schema_editor):
    """For the operators' search over all workspaces: `UPPER(description) LIKE 'CI,%'`. SQLite can't use one for that."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE INDEX api_key_description_prefix ON apikeys_apikey (upper(description) text_pattern_ops)"
        )


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX api_key_description_prefix")


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0005_operators")]

    operations = [migrations.RunPython(create_index, drop_index)]
