import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0008_quota_slots'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='tier',
            name='tier_within_bounds',
        ),
        migrations.AlterField(
            model_name='tier',
            name='burst_requests',
            field=models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)]),
        ),
        migrations.AlterField(
            model_name='tier',
            name='requests',
            field=models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)]),
        ),
        migrations.AddConstraint(
            model_name='tier',
            constraint=models.CheckConstraint(condition=models.Q(('burst_requests__gte', 1), ('burst_seconds__gte', 1), ('requests__gte', 1), ('seconds__gte', 1), ('burst_requests__lte', 1000000), ('requests__lte', 1000000)), name='tier_within_bounds', violation_error_message='Requests must be 1 to 1,000,000, and seconds at least 1.'),
        ),
    ]
