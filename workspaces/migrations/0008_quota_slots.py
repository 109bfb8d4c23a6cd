from django.db import migrations


# `layout` has the limits for which the row has totals. Rows of tiers without large limits have none of these columns,
# so the release before can use them.
#
# Totals have a fixed size and change with each request: they are neither compressed nor moved to another table, also
# when the row has those of two limits.
ADD_COLUMNS = {
    "postgresql": [
        """
        ALTER TABLE workspaces_quota
            ADD COLUMN layout integer[], ADD COLUMN main_totals integer[], ADD COLUMN burst_totals integer[]
        """,
        """
        ALTER TABLE workspaces_quota
            ALTER COLUMN layout SET STORAGE PLAIN,
            ALTER COLUMN main_totals SET STORAGE PLAIN, ALTER COLUMN burst_totals SET STORAGE PLAIN
        """,
        "ALTER TABLE workspaces_quota SET (toast_tuple_target = 4000)",
    ],
    "sqlite": [
        "ALTER TABLE workspaces_quota ADD COLUMN layout text",
        "ALTER TABLE workspaces_quota ADD COLUMN main_totals text",
        "ALTER TABLE workspaces_quota ADD COLUMN burst_totals text",
    ],
}
DROP_COLUMNS = {
    "postgresql": [
        "ALTER TABLE workspaces_quota RESET (toast_tuple_target)",
        "ALTER TABLE workspaces_quota DROP COLUMN layout, DROP COLUMN main_totals, DROP COLUMN burst_totals",
    ],
    "sqlite": [
        "ALTER TABLE workspaces_quota DROP COLUMN layout",
        "ALTER TABLE workspaces_quota DROP COLUMN main_totals",
        "ALTER TABLE workspaces_quota DROP COLUMN burst_totals",
    ],
}


def add_columns(apps, schema_editor):
    for statement in ADD_COLUMNS[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_columns(apps, schema_editor):
    for statement in DROP_COLUMNS[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0007_analyze_tasks'),
    ]

    operations = [
        migrations.RunPython(add_columns, drop_columns),
    ]
