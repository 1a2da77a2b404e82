"""Who may approve, undo and cancel in bulk; two levels of approvers; policies to switch on; reasons that ask who asked."""

from django.db import migrations

from shop.roles import ADMIN, FULFILMENT, MANAGER, SERVICE, grant

VIEW = ["orders.view_cancellation", "orders.view_approval", "orders.view_bulkrun"]
PERMISSIONS = {
    MANAGER: [
        *VIEW,
        "orders.cancel_for_any_reason",
        "orders.decide_approval",
        "orders.undo_cancellation",
        "orders.cancel_in_bulk",
        "orders.add_absence",
        "orders.change_absence",
        "orders.view_absence",
        "orders.view_cancelrule",
        "orders.view_approvalpolicy",
        "orders.view_approvallevel",
    ],
    FULFILMENT: [*VIEW, "orders.cancel_for_any_reason", "orders.undo_cancellation"],
    SERVICE: [*VIEW, "orders.undo_cancellation"],
}
LEVELS = [(1, "Store management", MANAGER), (2, "Administration", ADMIN)]

# Examples to start from: a shop switches on what it wants. Name → level, fields.
POLICIES = {
    "High value": (1, {"min_value": "500", "currency": "EUR"}),
    "Very high value": (2, {"min_value": "5000", "currency": "EUR"}),
    "Unusually many by one person": (2, {"staff_per_day": 30}),
    "Unusually many of one customer": (1, {"customer_per_month": 3}),
    "Unusually many within an hour": (2, {"store_per_hour": 50}),
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)
    group_model = apps.get_model("auth", "Group")
    levels = {}
    for level, name, role in LEVELS:
        group = group_model.objects.get(name=role)
        levels[level], _new = apps.get_model("orders", "ApprovalLevel").objects.get_or_create(
            level=level, defaults={"name": name, "group": group}
        )
    for name, (level, fields) in POLICIES.items():
        apps.get_model("orders", "ApprovalPolicy").objects.get_or_create(
            name=name, defaults={"level": levels[level], "is_active": False, **fields}
        )
    apps.get_model("orders", "ShippingEventType").objects.get_or_create(
        code="reinstated", defaults={"name": "Reinstated"}
    )
    reasons = apps.get_model("orders", "CancellationReason").objects
    reasons.filter(category="customer_requested").update(asks_contact=True)
    reasons.filter(code__in=["inventory_discrepancy", "quality_issues"]).update(restocks=False)


class Migration(migrations.Migration):
    dependencies = [("orders", "0004_cancellations")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
