import oauth.models
from django.db import migrations, models


SCOPES = ["openid", "profile", "email", "workspace:read", "workspace:write", "api-keys:manage"]


def keep_scopes(apps, schema_editor):
    """Let existing applications request every scope, as they could before."""
    apps.get_model("oauth", "Application").objects.update(scopes=SCOPES)


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0002_permission_to_revoke_tokens'),
    ]

    operations = [
        migrations.CreateModel(
            name='TokenFamily',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('started_at', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='application',
            name='scopes',
            field=models.JSONField(db_default=models.Value(['openid', 'profile', 'email', 'workspace:read', 'workspace:write'], models.JSONField()), default=oauth.models.default_scopes, validators=[oauth.models.validate_scopes]),
        ),
        migrations.RunPython(keep_scopes, migrations.RunPython.noop),
    ]
