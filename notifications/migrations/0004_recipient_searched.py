"""Messages are found by the beginning of an e-mail address, in whatever letters: of a million rows by an index."""

from django.db import migrations, models
from django.db.models.functions import Upper

NAME = "message_recipient_prefix"


def create(apps, schema_editor):
    # SQLite compares bytes, so that the plain index serves there.
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"CREATE INDEX {NAME} ON notifications_message (UPPER(recipient) text_pattern_ops)")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {NAME}")


class Migration(migrations.Migration):
    dependencies = [("notifications", "0003_webhook_roles"), ("shop", "0005_token_roles")]
    operations = [
        migrations.RemoveIndex(model_name="message", name="message_recipient"),
        migrations.AddIndex(
            model_name="message", index=models.Index(Upper("recipient"), name="message_recipient_upper")
        ),
        migrations.RunPython(create, drop),
    ]
