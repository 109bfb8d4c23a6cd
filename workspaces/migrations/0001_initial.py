import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
import workspaces.ids
import workspaces.validators
from django.conf import settings
from django.db import migrations, models


QUOTA_TABLE = {
    # Unlogged, since every request writes it and nothing in it is needed for longer than its longest window. The
    # fillfactor leaves room on each page for the next version of a row; without it one request in ten would leave a
    # page behind for autovacuum.
    "postgresql": """
        CREATE UNLOGGED TABLE workspaces_quota (subject varchar(40) PRIMARY KEY, admissions bigint[] NOT NULL)
        WITH (fillfactor = 70)
    """,
    "sqlite": "CREATE TABLE workspaces_quota (subject text PRIMARY KEY, admissions text NOT NULL) WITHOUT ROWID",
}


def create_quota_table(apps, schema_editor):
    schema_editor.execute(QUOTA_TABLE[schema_editor.connection.vendor])


def drop_quota_table(apps, schema_editor):
    schema_editor.execute("DROP TABLE workspaces_quota")


def create_standard_tier(apps, schema_editor):
    apps.get_model("workspaces", "Tier").objects.create(
        name="standard", requests=200, seconds=900, burst_requests=40, burst_seconds=60
    )


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='User',
            fields=[
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('id', workspaces.ids.IdField('u', serialize=False)),
                ('email', models.EmailField(error_messages={'unique': 'A user with this email already exists.'}, max_length=254, unique=True)),
                ('name', models.CharField(max_length=100, validators=[workspaces.validators.single_line])),
                ('is_active', models.BooleanField(default=True)),
                ('is_staff', models.BooleanField(default=False, verbose_name='may use the admin')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', workspaces.ids.IdField('m', serialize=False)),
                ('role', models.CharField(choices=[('owner', 'Owner'), ('admin', 'Admin'), ('member', 'Member')], default='member', max_length=10)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Tier',
            fields=[
                ('name', models.CharField(max_length=32, primary_key=True, serialize=False, validators=[django.core.validators.RegexValidator('\\A[a-z][a-z0-9-]*\\Z', 'Use lower-case letters, digits and hyphens. Start with a letter.'), django.core.validators.RegexValidator('\\Aburst\\Z', "“burst” is the name of every tier's short window.", inverse_match=True)])),
                ('requests', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)])),
                ('seconds', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
                ('burst_requests', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)])),
                ('burst_seconds', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('burst_requests__gte', 1), ('burst_seconds__gte', 1), ('requests__gte', 1), ('seconds__gte', 1), ('burst_requests__lte', 10000), ('requests__lte', 10000)), name='tier_within_bounds', violation_error_message='Requests must be 1 to 10,000, and seconds at least 1.'), models.CheckConstraint(condition=models.Q(('burst_seconds__lte', models.F('seconds'))), name='tier_burst_is_shorter', violation_error_message="The burst's window can't be longer than the main one.")],
            },
        ),
        migrations.CreateModel(
            name='Workspace',
            fields=[
                ('id', workspaces.ids.IdField('w', serialize=False)),
                ('name', models.CharField(max_length=100, validators=[workspaces.validators.single_line])),
                ('slug', models.SlugField(unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('suspended_at', models.DateTimeField(editable=False, null=True)),
                ('suspend_reason', models.CharField(blank=True, editable=False, max_length=200, validators=[workspaces.validators.single_line])),
                ('members', models.ManyToManyField(related_name='workspaces', through='workspaces.Membership', to=settings.AUTH_USER_MODEL)),
                ('tier', models.ForeignKey(default='standard', on_delete=django.db.models.deletion.PROTECT, to='workspaces.tier')),
            ],
            options={
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Task',
            fields=[
                ('id', workspaces.ids.IdField('tsk', serialize=False)),
                ('title', models.CharField(max_length=200, validators=[workspaces.validators.single_line])),
                ('description', models.TextField(blank=True, max_length=20000, validators=[workspaces.validators.multiple_lines])),
                ('status', models.CharField(choices=[('idea', 'Idea'), ('open', 'Open'), ('planned', 'Planned'), ('in_progress', 'In Progress'), ('review', 'Review'), ('blocked', 'Blocked'), ('completed', 'Completed'), ('cancelled', 'Cancelled')], default='open', max_length=12)),
                ('kind', models.CharField(choices=[('task', 'Task'), ('bug', 'Bug')], default='task', max_length=4)),
                ('scope', models.CharField(choices=[('todo', 'Todo'), ('initiative', 'Initiative'), ('ongoing', 'Ongoing')], default='todo', max_length=10)),
                ('visibility', models.CharField(choices=[('team', 'Team'), ('private', 'Private')], default='team', max_length=7)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('completed_at', models.DateTimeField(editable=False, null=True)),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='tasks', to=settings.AUTH_USER_MODEL)),
                ('workspace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='workspaces.workspace')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='membership',
            name='workspace',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='workspaces.workspace'),
        ),
        migrations.CreateModel(
            name='AuditEvent',
            fields=[
                ('id', workspaces.ids.IdField('evt', serialize=False)),
                ('subject', models.CharField(blank=True, max_length=40)),
                ('action', models.CharField(max_length=50)),
                ('via', models.CharField(choices=[('page', 'Page'), ('api', 'Api'), ('admin', 'Admin'), ('command', 'Command')], max_length=7)),
                ('client_ip', models.GenericIPAddressField(null=True, verbose_name='client IP')),
                ('details', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('actor', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('workspace', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='audit_events', to='workspaces.workspace')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='user',
            name='chosen_workspace',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='workspaces.workspace'),
        ),
        migrations.CreateModel(
            name='TaskContributor',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('type', models.CharField(choices=[('assignee', 'Assignee'), ('reviewer', 'Reviewer')], max_length=8)),
                ('task', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='contributors', to='workspaces.task')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='contributions', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.UniqueConstraint(fields=('task', 'user', 'type'), name='task_contributor_unique')],
            },
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(fields=['workspace', '-id'], name='task_newest_first'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(fields=('workspace', 'user'), name='membership_unique', violation_error_message='This person is in the workspace already.'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ['owner', 'admin', 'member'])), name='membership_role_known'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['workspace', '-id'], name='audit_event_newest_first'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['action', '-id'], name='audit_event_by_action'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['via', '-id'], name='audit_event_by_via'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['subject', '-id'], name='audit_event_by_subject'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.CheckConstraint(condition=models.Q(('email', django.db.models.functions.text.Lower('email'))), name='user_email_lower_case'),
        ),
        migrations.RunPython(create_quota_table, drop_quota_table),
        migrations.RunPython(create_standard_tier, migrations.RunPython.noop),
    ]
