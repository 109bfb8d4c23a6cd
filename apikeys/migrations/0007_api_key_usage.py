import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('apikeys', '0006_forget_secret_of_key'),
        ('workspaces', '0007_analyze_tasks'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKeyUsage',
            fields=[
                ('pk', models.CompositePrimaryKey('workspace_id', 'hour', 'api_key_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('workspace', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='usage', to='workspaces.workspace')),
                ('hour', models.DateTimeField(editable=False)),
                ('api_key', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='usage', to='apikeys.apikey')),
                ('admitted', models.BigIntegerField(default=0, editable=False)),
                ('rejected', models.BigIntegerField(default=0, editable=False)),
                ('client_errors', models.BigIntegerField(default=0, editable=False)),
                ('server_errors', models.BigIntegerField(default=0, editable=False)),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(fields=['hour'], name='api_key_usage_by_hour')],
            },
        ),
    ]
