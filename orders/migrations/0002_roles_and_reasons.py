"""Roles of staff, the desk's event types, and the reasons to choose from."""

from django.db import migrations

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

VIEW = [
    "orders.view_order",
    "orders.view_cancellationrequest",
    "orders.view_cancellationreason",
    "orders.view_hold",
    "orders.view_ordernote",
    "orders.view_journalentry",
    "inventory.view_product",
    "inventory.view_stockrecord",
    "inventory.view_stockmovement",
    "inventory.view_stockalert",
    "inventory.view_location",
    "notifications.view_message",
    "shop.view_job",
    "shop.view_store",
]
MONEY = ["payments.view_payment", "payments.view_refund", "payments.view_transaction"]
STOCK = ["inventory.receive_stock", "inventory.adjust_stock", "inventory.write_off_stock"]
ORDER = {
    name: f"orders.{name}_order"
    for name in (
        "approve",
        "prepare",
        "charge",
        "ship",
        "cancel",
        "cancel_prepared",
        "return",
        "refund",
        "hold",
        "readdress",
        "note",
    )
}

PERMISSIONS = {
    MANAGER: [
        *VIEW,
        *MONEY,
        *STOCK,
        *ORDER.values(),
        "orders.decide_cancellationrequest",
        "orders.change_cancellationreason",
        "orders.add_cancellationreason",
        "shop.handle_job",
        "notifications.resend_message",
        "payments.close_transaction",
        "inventory.change_product",
        "inventory.add_product",
    ],
    FULFILMENT: [
        *VIEW,
        *STOCK,
        *(ORDER[name] for name in ("prepare", "ship", "cancel", "return", "hold", "note")),
    ],
    SERVICE: [
        *VIEW,
        *MONEY,
        *(ORDER[name] for name in ("cancel", "readdress", "note", "hold")),
        "orders.decide_cancellationrequest",
        "notifications.resend_message",
        "shop.work_all_stores",
    ],
}

SHIPPING = [
    "ready_for_pickup:Ready for pickup",
    "shipped:Shipped",
    "delivered:Delivered",
    "cancelled:Cancelled",
    "returned:Returned",
]
PAYMENT = [
    "authorized:Authorized",
    "charged:Payment asked for",
    "paid:Paid",
    "received:Received",
    "declined:Declined",
    "refunded:Refunded",
    "voided:Authorization released",
]

# category: code, name, shown to customers, needs a note
REASONS = {
    "customer_requested": [
        ("changed_mind", "Changed mind", True, False),
        ("better_price", "Found a better price", True, False),
        ("no_longer_needed", "No longer needed", True, False),
        ("arrived_damaged", "Arrived damaged or wrong", True, False),
    ],
    "inventory_issues": [
        ("out_of_stock", "Out of stock", False, False),
        ("inventory_discrepancy", "Inventory discrepancy", False, False),
        ("quality_issues", "Quality issues", False, False),
    ],
    "payment_problems": [
        ("payment_declined", "Payment declined", False, False),
        ("payment_method_invalid", "Payment method invalid", False, False),
        ("payment_overdue", "Not paid in time", False, False),
        ("fraud_suspected", "Fraud suspected", False, True),
    ],
    "regulatory_compliance": [
        ("purchase_limits_exceeded", "Purchase limits exceeded", False, False),
        ("restricted_product", "Restricted product", False, False),
        ("age_verification_failed", "Age verification failed", False, False),
    ],
    "operational_issues": [
        ("staff_shortage", "Staff shortage", False, False),
        ("system_issues", "System issues", False, False),
        ("delivery_unavailable", "Delivery unavailable", False, False),
        ("other", "Other", False, True),
    ],
    "duplicate_order": [
        ("submitted_twice", "Customer submitted twice", True, False),
        ("system_duplicate", "System error created a duplicate", False, False),
    ],
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)
    for model, rows in (("ShippingEventType", SHIPPING), ("PaymentEventType", PAYMENT)):
        for row in rows:
            code, _colon, name = row.partition(":")
            apps.get_model("orders", model).objects.get_or_create(code=code, defaults={"name": name})
    reasons = [(category, *row) for category, rows in REASONS.items() for row in rows]
    for position, (category, code, name, shown, note) in enumerate(reasons, start=1):
        apps.get_model("orders", "CancellationReason").objects.get_or_create(
            code=code,
            defaults={
                "category": category,
                "name": name,
                "shown_to_customers": shown,
                "needs_note": note,
                "position": position,
            },
        )


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
