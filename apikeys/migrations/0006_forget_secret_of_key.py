from django.db import migrations


COLUMNS = ["key_id", "hash", "fingerprint", "shared_proof", "last_used_at", "last_used_from"]


class Migration(migrations.Migration):
    """The columns stay in the table for processes of the release before. The next release drops them."""

    dependencies = [
        ('apikeys', '0005_fill_stored_secrets'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField(model_name='apikey', name=name) for name in COLUMNS],
        ),
    ]
