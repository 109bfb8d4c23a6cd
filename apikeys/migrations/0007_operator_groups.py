from django.db import migrations

SUPPORT = [
    ("workspaces", "workspace", "view"),
    ("workspaces", "membership", "view"),
    ("workspaces", "user", "view"),
    ("workspaces", "tier", "view"),
    ("apikeys", "apikey", "view"),
    ("apikeys", "apikey", "revoke"),
    ("apikeys", "auditevent", "view"),
]
OPERATORS = SUPPORT + [
    ("workspaces", "workspace", "add"),
    ("workspaces", "workspace", "change"),
    ("workspaces", "membership", "add"),
    ("workspaces", "membership", "change"),
    ("workspaces", "membership", "delete"),
    ("workspaces", "user", "add"),
    ("workspaces", "user", "change"),
    ("workspaces", "tier", "add"),
    ("workspaces", "tier", "change"),
    ("workspaces", "tier", "delete"),
    ("apikeys", "apikey", "change"),
]


def create_groups(apps, schema_editor):
    for name, granted in (("support", SUPPORT), ("operators", OPERATORS)):
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        group.permissions.add(*(permission(apps, *what) for what in granted))


def permission(apps, app_label, model, verb):
    """Django makes these only after all migrations have run; it takes what it finds made."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label=app_label, model=model
    )
    name = apps.get_model(app_label, model)._meta.verbose_name
    made, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename=f"{verb}_{model}", defaults={"name": f"Can {verb} {name}"}
    )
    return made


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0006_description_prefix"),
        ("workspaces", "0004_suspension"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop)]
