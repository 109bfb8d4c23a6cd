from django.db import migrations


CREATE = {
    # Unlogged: written on every request, and worth no more than its longest window.
    "postgresql": "CREATE UNLOGGED TABLE apikeys_quota (subject varchar(40) PRIMARY KEY, admissions bigint[] NOT NULL)",
    "sqlite": "CREATE TABLE apikeys_quota (subject text PRIMARY KEY, admissions text NOT NULL) WITHOUT ROWID",
}


def create_table(apps, schema_editor):
    schema_editor.execute(CREATE[schema_editor.connection.vendor])


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0001_initial")]

    operations = [
        migrations.RunPython(create_table, migrations.RunPython.noop),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql="DROP TABLE apikeys_quota"),
    ]
