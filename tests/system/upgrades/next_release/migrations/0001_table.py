from django.db import migrations


class Migration(migrations.Migration):

    initial = True

    dependencies = [("workspaces", "0001_initial")]

    operations = [migrations.RunSQL("CREATE TABLE next_release (id bigint PRIMARY KEY)", "DROP TABLE next_release")]
