from django.db import migrations, transaction


BATCH = 1_000


def store_secrets(apps, schema_editor):
    """In short transactions, so that no request waits for long for a row. Can be repeated."""
    api_keys = apps.get_model("apikeys", "ApiKey").objects.order_by("pk")
    batch = api_keys[:BATCH]
    while pks := list(batch.values_list("pk", flat=True)):
        with transaction.atomic():
            store_secrets_of(api_keys.filter(pk__range=(pks[0], pks[-1])), apps.get_model("apikeys", "StoredSecret"))
        batch = api_keys.filter(pk__gt=pks[-1])[:BATCH]


def store_secrets_of(api_keys, stored_secret):
    """Lock these keys, so that a process of the release before changes none of them meanwhile."""
    missing = api_keys.filter(secrets=None, key_id__isnull=False).select_for_update(of=("self",))
    stored_secret.objects.bulk_create(
        stored_secret(
            key_id=api_key.key_id,
            workspace_id=api_key.workspace_id,
            api_key=api_key,
            hash=api_key.hash,
            fingerprint=api_key.fingerprint,
            shared_proof=api_key.shared_proof,
            created_at=api_key.created_at,
            last_used_at=api_key.last_used_at,
            last_used_from=api_key.last_used_from,
        )
        for api_key in missing
    )


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('apikeys', '0004_stored_secret'),
    ]

    operations = [
        migrations.RunPython(store_secrets, migrations.RunPython.noop),
    ]
