from django.db import migrations

VIEWED = [("oauth", "application"), ("oauth2_provider", "accesstoken"), ("oauth2_provider", "refreshtoken")]
GRANTED = {
    "support": [(*model, "view") for model in VIEWED],
    "operators": [(*model, "view") for model in VIEWED]
    + [("oauth", "application", "add"), ("oauth", "application", "change")],
}


def grant(apps, schema_editor):
    for name, permissions in GRANTED.items():
        group = apps.get_model("auth", "Group").objects.get(name=name)
        for app_label, model, verb in permissions:
            content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
                app_label=app_label, model=model
            )
            permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
                content_type=content_type,
                codename=f"{verb}_{model}",
                defaults={"name": f"Can {verb} {apps.get_model(app_label, model)._meta.verbose_name}"},
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("oauth", "0002_terminal"),
        ("apikeys", "0007_operator_groups"),
        ("oauth2_provider", "0022_refreshtoken_token_family_index"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
