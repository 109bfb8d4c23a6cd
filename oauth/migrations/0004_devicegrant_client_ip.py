from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0003_scopes_and_token_families'),
    ]

    operations = [
        migrations.AddField(
            model_name='devicegrant',
            name='client_ip',
            field=models.GenericIPAddressField(null=True, verbose_name='client IP'),
        ),
    ]
