import apikeys.validators
import django.db.models.deletion
import django.utils.timezone
import workspaces.ids
import workspaces.validators
from django.conf import settings
from django.db import migrations, models


SUPPORT = [
    ("workspaces", "workspace", "view"),
    ("workspaces", "membership", "view"),
    ("workspaces", "user", "view"),
    ("workspaces", "tier", "view"),
    ("apikeys", "apikey", "view"),
    ("apikeys", "apikey", "revoke"),
    ("workspaces", "auditevent", "view"),
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
    for name, permissions in (("support", SUPPORT), ("operators", OPERATORS)):
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        group.permissions.add(*(get_permission(apps, *permission) for permission in permissions))


def get_permission(apps, app_label, model, verb):
    """Return a permission. Django creates those that are missing after all migrations have run."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label=app_label, model=model
    )
    name = apps.get_model(app_label, model)._meta.verbose_name
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename=f"{verb}_{model}", defaults={"name": f"Can {verb} {name}"}
    )
    return permission


def create_description_index(apps, schema_editor):
    """For the operators' search by prefix over all workspaces. SQLite can't use an index for it."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE INDEX api_key_description_prefix ON apikeys_apikey (upper(description) text_pattern_ops)"
        )


def drop_description_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX api_key_description_prefix")


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('workspaces', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', workspaces.ids.IdField('key', serialize=False)),
                ('key_id', models.CharField(editable=False, max_length=12, unique=True)),
                ('hash', models.CharField(editable=False, max_length=200)),
                ('fingerprint', models.BinaryField(max_length=8)),
                ('description', models.CharField(max_length=100, validators=[workspaces.validators.single_line, apikeys.validators.NoKeyValidator('description')])),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(null=True)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('revoke_reason', models.CharField(blank=True, max_length=200, validators=[workspaces.validators.single_line, apikeys.validators.NoKeyValidator('reason')])),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_from', models.GenericIPAddressField(editable=False, null=True)),
                ('idempotency_key', models.CharField(editable=False, max_length=64, null=True)),
                ('request_digest', models.CharField(blank=True, editable=False, max_length=64)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('revoked_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('workspace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='api_keys', to='workspaces.workspace')),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ['-id'],
                'permissions': [('revoke_apikey', 'Can revoke API key')],
                'indexes': [models.Index(fields=['workspace', '-id'], name='api_key_newest_first'), models.Index(condition=models.Q(('revoked_at', None)), fields=['-id'], name='api_key_not_revoked'), models.Index(condition=models.Q(('revoked_at__isnull', False)), fields=['-id'], name='api_key_revoked'), models.Index(condition=models.Q(('revoked_at', None)), fields=['expires_at'], name='api_key_expiring')],
                'constraints': [models.UniqueConstraint(fields=('workspace', 'idempotency_key'), name='api_key_created_once')],
            },
        ),
        migrations.RunPython(create_description_index, drop_description_index),
        migrations.RunPython(create_groups, migrations.RunPython.noop),
    ]
