from django.db import migrations


def create_terminal(apps, schema_editor):
    apps.get_model("oauth", "Application").objects.create(
        client_id="terminal",
        name="One Horizon for terminals",
        client_type="public",
        authorization_grant_type="urn:ietf:params:oauth:grant-type:device_code",
    )


class Migration(migrations.Migration):
    dependencies = [("oauth", "0001_applications")]

    operations = [migrations.RunPython(create_terminal, migrations.RunPython.noop)]
