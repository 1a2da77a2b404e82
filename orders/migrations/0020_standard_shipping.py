"""What the standard delivery would have cost, and what of a dearer one a withdrawal does not give back."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0019_reasons_in_german_and_turkish"),
    ]

    operations = [
        migrations.AddField(
            model_name="order",
            name="shipping_standard",
            field=models.DecimalField(blank=True, decimal_places=3, editable=False, max_digits=15, null=True),
        ),
        migrations.AddField(
            model_name="withdrawal",
            name="shipping_kept",
            field=models.DecimalField(
                decimal_places=3, default=0, max_digits=15, verbose_name="dearer delivery, not refunded"
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("shipping_standard", None),
                    models.Q(("shipping_standard__gte", 0), ("shipping_standard__lte", models.F("shipping_total"))),
                    _connector="OR",
                ),
                name="order_standard_shipping_not_dearer",
            ),
        ),
    ]
