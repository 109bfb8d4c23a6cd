from django.db import migrations
from django.db.models import Max, Min, OuterRef, Subquery


BATCH = 5_000


def fill_workspace(apps, schema_editor):
    """In short transactions, so that no request waits for long for a row."""
    contributors = apps.get_model("workspaces", "TaskContributor").objects
    tasks = apps.get_model("workspaces", "Task").objects.filter(pk=OuterRef("task"))
    ids = contributors.aggregate(first=Min("pk"), last=Max("pk"))
    if ids["first"] is None:
        return
    for start in range(ids["first"], ids["last"] + 1, BATCH):
        batch = contributors.filter(pk__gte=start, pk__lt=start + BATCH, workspace=None)
        batch.update(workspace=Subquery(tasks.values("workspace")))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('workspaces', '0003_task_contributor_workspace'),
    ]

    operations = [
        migrations.RunPython(fill_workspace, migrations.RunPython.noop),
    ]
