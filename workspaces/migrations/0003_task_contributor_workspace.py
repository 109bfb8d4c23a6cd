import django.db.models.deletion
from django.db import migrations, models


# Processes of the release before insert rows without a workspace. The next release drops the trigger.
CREATE_TRIGGER = {
    "postgresql": [
        """
        CREATE FUNCTION set_task_contributor_workspace() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                SELECT workspace_id INTO NEW.workspace_id FROM workspaces_task WHERE id = NEW.task_id;
                RETURN NEW;
            END
        $$
        """,
        """
        CREATE TRIGGER task_contributor_workspace BEFORE INSERT ON workspaces_taskcontributor
            FOR EACH ROW WHEN (NEW.workspace_id IS NULL) EXECUTE FUNCTION set_task_contributor_workspace()
        """,
    ],
    "sqlite": [
        """
        CREATE TRIGGER task_contributor_workspace AFTER INSERT ON workspaces_taskcontributor
            FOR EACH ROW WHEN NEW.workspace_id IS NULL
            BEGIN
                UPDATE workspaces_taskcontributor
                    SET workspace_id = (SELECT workspace_id FROM workspaces_task WHERE id = NEW.task_id)
                    WHERE id = NEW.id;
            END
        """,
    ],
}
DROP_TRIGGER = {
    "postgresql": [
        "DROP TRIGGER task_contributor_workspace ON workspaces_taskcontributor",
        "DROP FUNCTION set_task_contributor_workspace",
    ],
    "sqlite": ["DROP TRIGGER task_contributor_workspace"],
}


def create_trigger(apps, schema_editor):
    for statement in CREATE_TRIGGER[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_trigger(apps, schema_editor):
    for statement in DROP_TRIGGER[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0002_user_session_generation'),
    ]

    operations = [
        migrations.AddField(
            model_name='taskcontributor',
            name='workspace',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workspaces.workspace'),
        ),
        migrations.RunPython(create_trigger, drop_trigger),
    ]
