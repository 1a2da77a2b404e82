"""Who sees where orders' events go: the Admin role sets it, managers look."""

from django.db import migrations

from shop.roles import MANAGER, grant

PERMISSIONS = {MANAGER: ["notifications.view_webhookendpoint", "notifications.view_webhookdelivery"]}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0002_webhooks"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
