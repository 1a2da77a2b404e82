"""Who may see the figures of cancellations."""

from django.db import migrations

from shop.roles import MANAGER, grant


def fill(apps, schema_editor):
    grant(apps, {MANAGER: ["orders.view_cancellationfigure"]})


class Migration(migrations.Migration):
    dependencies = [("orders", "0010_cancellation_figures")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
