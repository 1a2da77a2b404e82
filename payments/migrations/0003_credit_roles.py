"""What the roles may do with customers' credit."""

from django.db import migrations

from shop.roles import MANAGER, SERVICE, grant

VIEW = ["payments.view_creditaccount", "payments.view_creditentry"]
PERMISSIONS = {MANAGER: [*VIEW, "payments.adjust_credit"], SERVICE: VIEW}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0002_credit"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
