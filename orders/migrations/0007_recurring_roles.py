"""Who may see recurring orders, and who may start, pause and end them."""

from django.db import migrations

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

VIEW = "orders.view_recurringorder"
MANAGE = "orders.manage_recurring"
PERMISSIONS = {MANAGER: [VIEW, MANAGE], FULFILMENT: [VIEW], SERVICE: [VIEW, MANAGE]}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [("orders", "0006_recurring")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
