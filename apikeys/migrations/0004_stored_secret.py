import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


PREFIX_INDEX = "stored_secret_key_id_prefix"

# Processes of the release before read and write the secret in the key's row. The next release drops the triggers and
# these columns. Until then, alter no field of these tables: on SQLite Django would replace the table, without triggers.
# A trigger that changes nothing updates no row: so the triggers of the two tables end, also with SQLite's
# recursive_triggers, and filling the new table doesn't rewrite the old one.
CREATE_TRIGGERS = {
    "postgresql": [
        """
        CREATE FUNCTION store_secret_of_key() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO apikeys_storedsecret
                    (key_id, workspace_id, api_key_id, hash, fingerprint, shared_proof, created_at, request_digest)
                VALUES (NEW.key_id, NEW.workspace_id, NEW.id, NEW.hash, NEW.fingerprint, NEW.shared_proof,
                        NEW.created_at, '');
                RETURN NULL;
            END
        $$
        """,
        """
        CREATE TRIGGER api_key_secret_inserted AFTER INSERT ON apikeys_apikey
            FOR EACH ROW WHEN (NEW.key_id IS NOT NULL) EXECUTE FUNCTION store_secret_of_key()
        """,
        """
        CREATE FUNCTION update_secret_of_key() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- A process of this release locks the secret before the key, so waiting for the secret could be a
                -- deadlock. Nothing is lost by skipping it: the use is one of many, and the hash it has is valid too.
                PERFORM 1 FROM apikeys_storedsecret WHERE key_id = NEW.key_id FOR NO KEY UPDATE SKIP LOCKED;
                IF NOT FOUND THEN
                    RETURN NULL;
                END IF;
                IF NEW.last_used_at IS DISTINCT FROM OLD.last_used_at THEN
                    UPDATE apikeys_storedsecret
                    SET last_used_at = NEW.last_used_at, last_used_from = NEW.last_used_from,
                        first_used_at = coalesce(first_used_at, NEW.last_used_at)
                    WHERE key_id = NEW.key_id;
                END IF;
                IF (NEW.hash, NEW.shared_proof) IS DISTINCT FROM (OLD.hash, OLD.shared_proof) THEN
                    UPDATE apikeys_storedsecret SET hash = NEW.hash, shared_proof = NEW.shared_proof
                    WHERE key_id = NEW.key_id;
                END IF;
                RETURN NULL;
            END
        $$
        """,
        """
        CREATE TRIGGER api_key_secret_updated AFTER UPDATE OF hash, shared_proof, last_used_at ON apikeys_apikey
            FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION update_secret_of_key()
        """,
        """
        CREATE FUNCTION update_key_of_secret() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- A request that saves a hash or a proof waits for no key. Skipping one loses nothing: its hash is valid.
                IF TG_OP = 'UPDATE' THEN
                    PERFORM 1 FROM apikeys_apikey WHERE id = NEW.api_key_id FOR NO KEY UPDATE SKIP LOCKED;
                    IF NOT FOUND THEN
                        RETURN NULL;
                    END IF;
                END IF;
                UPDATE apikeys_apikey
                SET key_id = NEW.key_id, hash = NEW.hash, fingerprint = NEW.fingerprint, shared_proof = NEW.shared_proof
                WHERE id = NEW.api_key_id
                    AND (key_id, hash, shared_proof) IS DISTINCT FROM (NEW.key_id, NEW.hash, NEW.shared_proof);
                RETURN NULL;
            END
        $$
        """,
        """
        CREATE TRIGGER stored_secret_changed AFTER INSERT OR UPDATE OF hash, shared_proof ON apikeys_storedsecret
            FOR EACH ROW WHEN (NEW.replaced_at IS NULL AND pg_trigger_depth() = 0)
            EXECUTE FUNCTION update_key_of_secret()
        """,
    ],
    "sqlite": [
        """
        CREATE TRIGGER api_key_secret_inserted AFTER INSERT ON apikeys_apikey
            FOR EACH ROW WHEN NEW.key_id IS NOT NULL
            BEGIN
                INSERT INTO apikeys_storedsecret
                    (key_id, workspace_id, api_key_id, hash, fingerprint, shared_proof, created_at, request_digest)
                VALUES (NEW.key_id, NEW.workspace_id, NEW.id, NEW.hash, NEW.fingerprint, NEW.shared_proof,
                        NEW.created_at, '');
            END
        """,
        """
        CREATE TRIGGER api_key_secret_rehashed AFTER UPDATE OF hash, shared_proof ON apikeys_apikey
            FOR EACH ROW WHEN NEW.key_id = OLD.key_id
            BEGIN
                UPDATE apikeys_storedsecret SET hash = NEW.hash, shared_proof = NEW.shared_proof
                    WHERE key_id = NEW.key_id AND (hash IS NOT NEW.hash OR shared_proof IS NOT NEW.shared_proof);
            END
        """,
        """
        CREATE TRIGGER api_key_secret_used AFTER UPDATE OF last_used_at ON apikeys_apikey
            FOR EACH ROW
            BEGIN
                UPDATE apikeys_storedsecret
                    SET last_used_at = NEW.last_used_at, last_used_from = NEW.last_used_from,
                        first_used_at = coalesce(first_used_at, NEW.last_used_at)
                    WHERE key_id = NEW.key_id;
            END
        """,
        """
        CREATE TRIGGER stored_secret_inserted AFTER INSERT ON apikeys_storedsecret
            FOR EACH ROW WHEN NEW.replaced_at IS NULL
            BEGIN
                UPDATE apikeys_apikey
                    SET key_id = NEW.key_id, hash = NEW.hash, fingerprint = NEW.fingerprint,
                        shared_proof = NEW.shared_proof
                    WHERE id = NEW.api_key_id
                        AND (key_id IS NOT NEW.key_id OR hash IS NOT NEW.hash OR shared_proof IS NOT NEW.shared_proof);
            END
        """,
        """
        CREATE TRIGGER stored_secret_rehashed AFTER UPDATE OF hash, shared_proof ON apikeys_storedsecret
            FOR EACH ROW WHEN NEW.replaced_at IS NULL
            BEGIN
                UPDATE apikeys_apikey SET hash = NEW.hash, shared_proof = NEW.shared_proof
                    WHERE id = NEW.api_key_id AND (hash IS NOT NEW.hash OR shared_proof IS NOT NEW.shared_proof);
            END
        """,
    ],
}
DROP_TRIGGERS = {
    "postgresql": [
        "DROP TRIGGER IF EXISTS api_key_secret_inserted ON apikeys_apikey",
        "DROP TRIGGER IF EXISTS api_key_secret_updated ON apikeys_apikey",
        "DROP TRIGGER IF EXISTS stored_secret_changed ON apikeys_storedsecret",
        "DROP FUNCTION IF EXISTS store_secret_of_key",
        "DROP FUNCTION IF EXISTS update_secret_of_key",
        "DROP FUNCTION IF EXISTS update_key_of_secret",
    ],
    "sqlite": [
        "DROP TRIGGER IF EXISTS api_key_secret_inserted",
        "DROP TRIGGER IF EXISTS api_key_secret_rehashed",
        "DROP TRIGGER IF EXISTS api_key_secret_used",
        "DROP TRIGGER IF EXISTS stored_secret_inserted",
        "DROP TRIGGER IF EXISTS stored_secret_rehashed",
    ],
}


def create_triggers(apps, schema_editor):
    for statement in CREATE_TRIGGERS[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    for statement in DROP_TRIGGERS[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def create_prefix_index(apps, schema_editor):
    """For the search in the admin by the start of a key id. SQLite can't use an index for it."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"CREATE INDEX {PREFIX_INDEX} ON apikeys_storedsecret (key_id varchar_pattern_ops)")


class Migration(migrations.Migration):

    dependencies = [
        ('apikeys', '0003_apikey_shared_proof'),
        ('workspaces', '0007_analyze_tasks'),
    ]

    operations = [
        migrations.CreateModel(
            name='StoredSecret',
            fields=[
                ('key_id', models.CharField(editable=False, max_length=12, primary_key=True, serialize=False)),
                ('hash', models.CharField(editable=False, max_length=200)),
                ('fingerprint', models.BinaryField(max_length=8)),
                ('shared_proof', models.BinaryField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('replaced_at', models.DateTimeField(editable=False, null=True)),
                ('ends_at', models.DateTimeField(editable=False, null=True)),
                ('ended_at', models.DateTimeField(editable=False, null=True)),
                ('first_used_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_from', models.GenericIPAddressField(editable=False, null=True)),
                ('idempotency_key', models.CharField(editable=False, max_length=64, null=True)),
                ('request_digest', models.CharField(blank=True, editable=False, max_length=64)),
                ('api_key', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='secrets', to='apikeys.apikey')),
                ('workspace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workspaces.workspace')),
            ],
            options={
                'default_permissions': (),
                'ordering': ['-created_at'],
                'indexes': [models.Index(fields=['api_key', 'ends_at'], name='secrets_of_key')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('replaced_at', None)), fields=('api_key',), name='one_current_secret'), models.UniqueConstraint(fields=('workspace', 'api_key', 'idempotency_key'), name='secret_created_once')],
            },
        ),
        migrations.RunPython(create_prefix_index, migrations.RunPython.noop),
        # New rows get these columns from the trigger.
        migrations.AlterField(
            model_name='apikey',
            name='key_id',
            field=models.CharField(editable=False, max_length=12, null=True, unique=True),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='hash',
            field=models.CharField(editable=False, max_length=200, null=True),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='fingerprint',
            field=models.BinaryField(max_length=8, null=True),
        ),
        migrations.RunPython(create_triggers, drop_triggers),
    ]
