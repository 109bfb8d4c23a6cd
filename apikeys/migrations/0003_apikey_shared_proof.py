from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('apikeys', '0002_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='apikey',
            name='shared_proof',
            field=models.BinaryField(null=True),
        ),
    ]
