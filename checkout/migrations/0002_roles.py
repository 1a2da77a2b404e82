"""What the roles may do with methods, discounts, carts and address books."""

from django.db import migrations

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

OFFERS = ("shippingmethod", "paymentmethod", "discount")
VIEW = [f"checkout.view_{name}" for name in (*OFFERS, "cart", "address")]

PERMISSIONS = {
    MANAGER: [*VIEW, *(f"checkout.{verb}_{name}" for verb in ("add", "change", "delete") for name in OFFERS)],
    FULFILMENT: [f"checkout.view_{name}" for name in ("shippingmethod", "paymentmethod")],
    SERVICE: VIEW,
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [
        ("checkout", "0001_initial"),
        ("orders", "0002_roles_and_reasons"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
