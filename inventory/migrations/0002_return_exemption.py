"""Why a product cannot be sent back."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='product',
            name='return_exemption',
            field=models.CharField(blank=True, choices=[('made_to_order', "made to the customer's order"), ('perishable', 'perishes quickly'), ('hygiene', 'sealed for hygiene'), ('mixed', 'cannot be separated once delivered'), ('sealed_media', 'sealed recordings or software'), ('periodical', 'newspaper or magazine'), ('dated_service', 'for a fixed date'), ('digital', 'digital content')], help_text='Why, where the law allows it. Counts for orders placed from now on.', max_length=20, verbose_name='cannot be sent back'),
        ),
    ]
