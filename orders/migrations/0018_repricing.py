"""What an order's prices depended on, and whether what stays is priced anew."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0017_picking_and_labels'),
    ]

    operations = [
        migrations.AddField(
            model_name='cancelrule',
            name='reprices',
            field=models.BooleanField(default=False, help_text='Off: the deal stays. On: a discount or free shipping that asked for more goods than are left is taken off the refund.', verbose_name='prices what stays anew'),
        ),
        migrations.AddField(
            model_name='order',
            name='deal',
            field=models.JSONField(blank=True, default=dict, editable=False),
        ),
        migrations.AddField(
            model_name='order',
            name='repriced_total',
            field=models.DecimalField(decimal_places=3, default=0, editable=False, max_digits=15),
        ),
    ]
