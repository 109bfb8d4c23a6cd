from django.db import migrations


def let_operators_revoke_tokens(apps, schema_editor):
    """Both groups could revoke tokens before, with the permission to revoke API keys."""
    for name in ("access token", "refresh token"):
        model = name.replace(" ", "")
        content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
            app_label="oauth2_provider", model=model
        )
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=f"delete_{model}", defaults={"name": f"Can delete {name}"}
        )
        for group in apps.get_model("auth", "Group").objects.filter(name__in=["support", "operators"]):
            group.permissions.add(permission)


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0001_initial'),
    ]

    operations = [
        migrations.RunPython(let_operators_revoke_tokens, migrations.RunPython.noop),
    ]
