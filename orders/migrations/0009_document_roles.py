"""Who may see and issue documents, and who sets their series."""

from django.db import migrations

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

PERMISSIONS = {
    MANAGER: [
        "orders.view_document",
        "orders.issue_document",
        "orders.view_documentseries",
        "orders.add_documentseries",
        "orders.change_documentseries",
    ],
    FULFILMENT: ["orders.view_document"],
    SERVICE: ["orders.view_document", "orders.issue_document"],
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [("orders", "0008_documents")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
