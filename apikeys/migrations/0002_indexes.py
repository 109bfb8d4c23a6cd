from django.db import migrations, models

from core.db.operations import AddIndexConcurrently, drop_index


PREFIX_INDEX = "api_key_key_id_prefix"
# The indexes for LIKE that Django has created next to each index on a text column, until this release.
LIKE_INDEXES = r"""
    SELECT index.relname
    FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid JOIN pg_opclass AS class ON class.oid = indclass[0]
    WHERE indrelid = to_regclass(%s) AND opcname LIKE '%%\_pattern\_ops' AND index.relname LIKE '%%\_like'
"""


def replace_like_indexes(apps, schema_editor):
    """Drop the indexes for LIKE in all tables. One is needed: a search in the admin finds keys by the start of their id.

    The migrations of the workspaces app create two others.
    """
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    create_index = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {PREFIX_INDEX} ON apikeys_apikey"
    schema_editor.execute(f"{create_index} (key_id varchar_pattern_ops)")
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True):
            cursor.execute(LIKE_INDEXES, [table])
            for (name,) in cursor.fetchall():
                drop_index(schema_editor, name)


def drop_prefix_index(apps, schema_editor):
    drop_index(schema_editor, PREFIX_INDEX)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('apikeys', '0001_initial'),
        ('workspaces', '0005_indexes'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='apikey',
            index=models.Index(condition=models.Q(('revoked_at', None)), fields=['workspace', 'expires_at'], name='api_key_active'),
        ),
        migrations.RunPython(replace_like_indexes, drop_prefix_index),
    ]
