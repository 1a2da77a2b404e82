"""Who may run maintenance; and a day for what is in the inbox already, as the desk gives to what comes there now."""

from datetime import timedelta

from django.db import migrations
from django.utils import timezone

from shop.roles import ADMIN, grant


def fill(apps, schema_editor):
    grant(apps, {ADMIN: ["shop.run_maintenance", "shop.view_maintenance"]})
    waiting = apps.get_model("shop", "Job").objects.filter(state="needs_attention", due_at=None)
    waiting.update(due_at=timezone.now() + timedelta(days=1))


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0002_inbox_and_maintenance"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
