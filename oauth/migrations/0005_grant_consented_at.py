from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0004_devicegrant_client_ip'),
    ]

    operations = [
        migrations.AddField(
            model_name='grant',
            name='consented_at',
            field=models.DateTimeField(null=True),
        ),
    ]
