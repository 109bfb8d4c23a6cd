import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from core.db.operations import AddIndexConcurrently, DropFieldIndex, drop_index


# Searches in the admin find these by prefix. Django creates such an index for each text column with an index, until
# this release: see core.db.postgresql.schema.
PREFIX_INDEXES = {
    "user_email_prefix": "workspaces_user (email varchar_pattern_ops)",
    "workspace_slug_prefix": "workspaces_workspace (slug varchar_pattern_ops)",
}


def create_prefix_indexes(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name, columns in PREFIX_INDEXES.items():
            schema_editor.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")


def drop_prefix_indexes(apps, schema_editor):
    for name in PREFIX_INDEXES:
        drop_index(schema_editor, name)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('workspaces', '0004_fill_task_contributor_workspace'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='taskcontributor',
            index=models.Index(fields=['workspace', 'task'], name='task_contributor_of_task'),
        ),
        AddIndexConcurrently(
            model_name='task',
            index=models.Index(fields=['workspace', 'visibility', '-id'], name='task_of_team'),
        ),
        AddIndexConcurrently(
            model_name='task',
            index=models.Index(fields=['workspace', 'visibility', 'status', 'scope', 'kind', '-id'], name='task_of_team_by_state'),
        ),
        AddIndexConcurrently(
            model_name='task',
            index=models.Index(fields=['workspace', 'user', 'visibility', 'status', 'scope', 'kind', '-id'], name='task_of_owner_by_state'),
        ),
        AddIndexConcurrently(
            model_name='auditevent',
            index=models.Index(fields=['actor', '-id'], name='audit_event_by_actor'),
        ),
        DropFieldIndex(
            model_name='auditevent',
            name='actor',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        DropFieldIndex(
            model_name='membership',
            name='workspace',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='workspaces.workspace'),
        ),
        migrations.RunPython(create_prefix_indexes, drop_prefix_indexes),
    ]
