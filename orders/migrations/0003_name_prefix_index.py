"""An index by which PostgreSQL finds the beginning of a customer's name in any collation."""

from django.db import migrations

NAME = "order_customer_name_prefix"


def create(apps, schema_editor):
    # SQLite compares bytes, so that the plain index serves there.
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"CREATE INDEX {NAME} ON orders_order (UPPER(customer_name) text_pattern_ops)")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {NAME}")


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_roles_and_reasons")]
    operations = [migrations.RunPython(create, drop)]
