"""Who may do what in the orders' admin, with the probes that django-fsm-2's own admin fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from orders.admin.actions import ORDER_ACTIONS
from orders.models import CancellationReason, Hold, JournalEntry, Order, OrderNote, ShippingEventType
from orders.processing import EventHandler
from orders.processing.requesting import Wish
from shop.models import Job, Store, User
from tests import factories

Place = Callable[..., Order]

pytestmark = pytest.mark.django_db

NAMES = [action.name for action in ORDER_ACTIONS]
PERMISSIONS = {action.name: action.permission for action in ORDER_ACTIONS}
EVERYTHING = {"version": "", "note": "x", "reason": "out_of_stock", "kind": "fraud", "message": "x", "amount": "1"}


@pytest.fixture
def colleague(store: Store) -> Callable[..., User]:
    """colleague("orders.approve_order", …): staff of the store with these permissions and no role."""

    def make(*permissions: str) -> User:
        user: User = factories.UserFactory(is_staff=True)
        names = [permission.split(".")[1] for permission in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        store.staff.add(user)
        return user

    return make


def url(order: Order, name: str) -> str:
    return reverse("admin:orders_order_do", args=(order.pk, name))


def state(order: Order) -> tuple[Any, ...]:
    """Everything that an action could have changed."""
    return (
        Order.objects.filter(pk=order.pk).values().get(),
        list(order.lines.values()),
        order.journal.count(),
        order.notes.count(),
        order.holds.count(),
        order.cancellation_requests.count(),
        Job.objects.count(),
    )


def sent(order: Order, **more: Any) -> dict[str, Any]:
    return {**EVERYTHING, "version": order.version, "step": "confirm", **more}


@pytest.mark.parametrize("name", NAMES)
def test_a1_a_post_without_the_actions_own_permission_does_nothing(
    name: str, client: Client, colleague: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    others = {permission for permission in PERMISSIONS.values() if permission != PERMISSIONS[name]}
    client.force_login(colleague("orders.view_order", "orders.change_order", *others))
    page = client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    assert url(order, name) not in page
    assert client.get(url(order, name)).status_code == 403
    assert client.post(url(order, name), sent(order)).status_code == 403
    assert state(order) == before


def test_a2_hidden_transitions_cannot_be_posted(
    client: Client, django_user_model: type[User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    client.force_login(django_user_model.objects.create_superuser("root", "root@example.com"))
    hidden = [
        "populate",
        "await_payment",
        "confirm_payment",
        "approve_unreviewed",
        "complete_shipment",
        "complete_cancellation",
    ]
    for name in hidden:
        assert client.post(url(order, name), sent(order)).status_code == 404
    page = reverse("admin:orders_order_change", args=(order.pk,))
    for name in ["approve", *hidden]:
        assert client.post(page, {"_fsm_transition_to": name}).status_code == 403
    assert state(order) == before


@pytest.mark.parametrize(
    "name", ["start-preparing", "ready-for-pickup", "hand-over", "ship", "deliver", "release-hold"]
)
def test_a3_a4_what_is_not_possible_now_is_refused_with_words(
    name: str, client: Client, colleague: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    client.force_login(colleague("orders.view_order", *PERMISSIONS.values()))
    line = order.lines.get().pk
    answer = client.post(url(order, name), sent(order, hold="1", **{f"units_{line}": 1}))
    assert answer.status_code in {200, 409}
    assert (
        b"not possible" in answer.content
        or b"not on hold" in answer.content
        or b"Nothing is" in answer.content
        or b"chose delivery" in answer.content
    )
    assert state(order) == before


def test_a5_who_may_only_look_sees_no_button_and_no_menu(
    client: Client, colleague: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    client.force_login(colleague("orders.view_order"))
    for page in (reverse("admin:orders_order_change", args=(order.pk,)), reverse("admin:orders_order_changelist")):
        html = client.get(page).content.decode()
        assert order.number in html
        assert "/do/" not in html
    for name in NAMES:
        assert client.post(url(order, name), sent(order)).status_code == 403
    assert state(order) == before


def test_a6_staff_without_any_permission_and_strangers_see_and_do_nothing(
    client: Client, colleague: Callable[..., User], staff: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    customer = factories.UserFactory()
    elsewhere = staff("Store Manager", factories.StoreFactory())
    for user, statuses in (
        (None, {302}),
        (customer, {302}),
        (colleague(), {403}),
        (colleague(*PERMISSIONS.values()), {403}),
        (elsewhere, {404}),
        (staff("Store Manager"), {404}),
    ):
        client.logout()
        if user:
            client.force_login(user)
        for name in NAMES:
            assert client.get(url(order, name)).status_code in statuses, (user, name)
            assert client.post(url(order, name), sent(order)).status_code in statuses, (user, name)
        assert client.get(reverse("admin:orders_order_change", args=(order.pk,))).status_code in statuses
    assert state(order) == before


def test_a7_unknown_names_are_not_found(
    client: Client, colleague: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    before = state(order)
    client.force_login(colleague("orders.view_order", *PERMISSIONS.values()))
    for name in ("delete", "save", "__init__", "set_status", "nothing", "do"):
        assert client.get(url(order, "approve").replace("/approve/", f"/{name}/")).status_code == 404
        assert client.post(url(order, "approve").replace("/approve/", f"/{name}/")).status_code == 404
    assert client.get(url(order, "approve").replace(f"/{order.pk}/", "/999999/")).status_code == 404
    assert client.get(url(order, "approve").replace(f"/{order.pk}/", "/abc/")).status_code == 404
    assert state(order) == before


THOROUGH = pytest.mark.thorough


@pytest.mark.parametrize(
    "until", ["", pytest.param("approved", marks=THOROUGH), "paid", pytest.param("delivered", marks=THOROUGH)]
)
def test_looking_changes_nothing_whatever_the_address_says(
    until: str, client: Client, colleague: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store, until=until)
    before = state(order)
    client.force_login(colleague("orders.view_order", *PERMISSIONS.values()))
    for name in NAMES:
        assert client.get(url(order, name), sent(order)).status_code == 200
        assert client.head(url(order, name)).status_code == 200
        for method in (client.put, client.delete, client.patch):
            assert method(url(order, name)).status_code == 405
    assert state(order) == before


def test_a_post_without_a_csrf_token_does_nothing(colleague: Callable[..., User], place: Place, store: Store) -> None:
    order = place(store=store)
    client = Client(enforce_csrf_checks=True)
    client.force_login(colleague("orders.view_order", *PERMISSIONS.values()))
    assert client.post(url(order, "approve"), sent(order)).status_code == 403
    assert Order.objects.get(pk=order.pk).version == order.version


# ---------------------------------------------------------------------------------------------------------------
# The tables beside the orders


@pytest.fixture
def beside(place: Place, store: Store, system: EventHandler, reason: CancellationReason) -> dict[str, Any]:
    """A row of each table that belongs to an order of the store."""
    order = place(store=store)
    request = system.request_cancellation(
        number=order.number, wishes=[Wish(order.lines.get().pk, 1, "cancel", reason)]
    )[0]
    hold = system.place_hold(number=order.number, kind="other", reason="Look")
    note = system.write_note(number=order.number, message="A note")
    return {
        "cancellationrequest": request,
        "hold": hold,
        "ordernote": note,
        "journalentry": order.journal.get(sequence=2),
    }


@pytest.mark.parametrize("name", ["cancellationrequest", "hold", "ordernote", "journalentry"])
def test_the_tables_beside_are_to_be_read_in_ones_own_store_only(
    name: str, beside: dict[str, Any], client: Client, staff: Callable[..., User], store: Store, place: Place
) -> None:
    row = beside[name]
    page = reverse(f"admin:orders_{name}_change", args=(row.pk,))
    table = reverse(f"admin:orders_{name}_changelist")
    client.force_login(staff("Store Manager", store))
    assert client.get(page).status_code == 200
    assert row.order.number in client.get(table, {"q": row.order.number}).content.decode()
    client.force_login(staff("Store Manager", factories.StoreFactory()))
    assert client.get(page).status_code == 404
    assert row.order.number not in client.get(table).content.decode()
    if name == "cancellationrequest":
        answer = reverse("admin:orders_cancellationrequest_do", args=(row.pk, "approve"))
        assert client.post(answer, {"version": row.order.version, "note": ""}).status_code == 404
        row.refresh_from_db()
        assert row.status == "open"


@pytest.mark.parametrize("name", ["order", "cancellationrequest", "hold", "ordernote", "journalentry"])
def test_not_even_a_superuser_adds_changes_or_deletes_what_has_happened(
    name: str, beside: dict[str, Any], client: Client, django_user_model: type[User]
) -> None:
    client.force_login(django_user_model.objects.create_superuser("root", "root@example.com"))
    row = beside[name] if name != "order" else beside["hold"].order
    before = type(row).objects.filter(pk=row.pk).values().get()
    for address, data in (
        (reverse(f"admin:orders_{name}_add"), {"note": "x"}),
        (reverse(f"admin:orders_{name}_change", args=(row.pk,)), {"note": "x", "verb": "x", "message": "x"}),
        (reverse(f"admin:orders_{name}_delete", args=(row.pk,)), {"post": "yes"}),
    ):
        assert client.post(address, data).status_code == 403, address
    client.post(
        reverse(f"admin:orders_{name}_changelist"),
        {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"},
    )
    assert type(row).objects.filter(pk=row.pk).values().get() == before


def test_events_have_no_admin_that_could_edit_them() -> None:
    for name in (
        "shippingevent",
        "paymentevent",
        "communicationevent",
        "orderstatuschange",
        "orderline",
        "orderaddress",
    ):
        with pytest.raises(Exception, match="Reverse for"):
            reverse(f"admin:orders_{name}_changelist")


def test_a_reason_is_edited_but_keeps_its_code_and_stays_once_it_is_used(
    client: Client,
    django_user_model: type[User],
    staff: Callable[..., User],
    place: Place,
    store: Store,
    system: EventHandler,
) -> None:
    client.force_login(django_user_model.objects.create_superuser("root", "root@example.com"))
    used = CancellationReason.objects.get(code="staff_shortage")
    order = place(store=store)
    system.cancel(number=order.number, reason="staff_shortage")
    page = reverse("admin:orders_cancellationreason_change", args=(used.pk,))
    data = {"code": "hacked", "category": used.category, "name": "Too few of us", "position": 3, "is_active": "on"}
    assert client.post(page, data).status_code == 302
    used.refresh_from_db()
    assert (used.code, used.name) == ("staff_shortage", "Too few of us")
    unused = CancellationReason.objects.create(code="unused", name="Unused", category="duplicate_order")
    for reason, status in ((used, 403), (CancellationReason.objects.get(code="other"), 403), (unused, 302)):
        assert (
            client.post(
                reverse("admin:orders_cancellationreason_delete", args=(reason.pk,)), {"post": "yes"}
            ).status_code
            == status
        )
    shipped = ShippingEventType.objects.get(code="shipped")
    assert (
        client.post(reverse("admin:orders_shippingeventtype_delete", args=(shipped.pk,)), {"post": "yes"}).status_code
        == 403
    )
    client.force_login(staff("Fulfilment", store))
    assert client.post(page, data).status_code == 403


def test_the_lists_beside_take_the_same_queries_for_any_number_of_rows(
    client: Client,
    staff: Callable[..., User],
    place: Place,
    store: Store,
    system: EventHandler,
    reason: CancellationReason,
) -> None:
    client.force_login(staff("Store Manager", store))

    def more(count: int) -> None:
        for _n in range(count):
            order = place(store=store)
            system.request_cancellation(number=order.number, wishes=[Wish(order.lines.get().pk, 1, "cancel", reason)])
            system.place_hold(number=order.number, kind="other")
            system.write_note(number=order.number, message="x")

    more(1)
    for name in ("cancellationrequest", "hold", "ordernote", "journalentry"):
        table = reverse(f"admin:orders_{name}_changelist")
        client.get(table)
        counts = []
        for _again in range(2):
            with CaptureQueriesContext(connection) as queries:
                assert client.get(table).status_code == 200
            counts.append(len(queries))
            more(3)
        assert counts[0] == counts[1], name
    assert JournalEntry.objects.exists()
    assert Hold.objects.exists()
    assert OrderNote.objects.exists()


def test_refused_and_missing_pages_say_so_and_lead_back(
    staff: Callable[..., User], client: Client, store: Store
) -> None:
    client.force_login(staff("Customer Service", store))
    missing = client.get("/admin/orders/order/999999/do/cancel/")
    assert missing.status_code == 404
    assert b"There is nothing here" in missing.content
    order = factories.place_order(store=store)
    refused = client.get(f"/admin/orders/order/{order.pk}/do/approve/")
    assert refused.status_code == 403
    assert b"Nothing has happened" in refused.content
