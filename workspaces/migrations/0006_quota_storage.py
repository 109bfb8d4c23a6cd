from django.db import migrations


# PostgreSQL would compress a row of more than 2 kB at each request, and decompress it several times.
STORAGE = "ALTER TABLE workspaces_quota ALTER COLUMN admissions SET STORAGE {}"


def set_storage(schema_editor, storage):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(STORAGE.format(storage))


def store_uncompressed(apps, schema_editor):
    set_storage(schema_editor, "EXTERNAL")


def store_compressed(apps, schema_editor):
    set_storage(schema_editor, "EXTENDED")


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0005_indexes'),
    ]

    operations = [
        migrations.RunPython(store_uncompressed, store_compressed),
    ]
