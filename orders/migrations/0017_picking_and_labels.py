"""Two more kinds of documents: picking slips and return labels."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0016_withdrawal'),
    ]

    operations = [
        migrations.AlterField(
            model_name='document',
            name='kind',
            field=models.CharField(choices=[('invoice', 'Invoice'), ('credit_note', 'Credit note'), ('restoration_note', 'Restoration note'), ('delivery_note', 'Delivery note'), ('picking_slip', 'Picking slip'), ('return_label', 'Return label')], max_length=20, verbose_name='kind'),
        ),
        migrations.AlterField(
            model_name='document',
            name='total',
            field=models.DecimalField(blank=True, decimal_places=3, help_text='none on papers that go with goods', max_digits=15, null=True, verbose_name='total'),
        ),
        migrations.AlterField(
            model_name='documentseries',
            name='kind',
            field=models.CharField(choices=[('invoice', 'Invoice'), ('credit_note', 'Credit note'), ('restoration_note', 'Restoration note'), ('delivery_note', 'Delivery note'), ('picking_slip', 'Picking slip'), ('return_label', 'Return label')], max_length=20, verbose_name='kind'),
        ),
    ]
