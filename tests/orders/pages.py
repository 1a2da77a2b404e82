"""Pages of the admin as a browser sees them: their words, and what their forms would send."""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup
from django.contrib.auth.models import Permission
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from orders.models import Approval, Order
from shop.models import User

ORDERS = "/admin/orders/order/"


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(order: Order, name: str) -> str:
    return reverse("admin:orders_order_do", args=(order.pk, name))


def text(html: Any) -> str:
    node = html if hasattr(html, "get_text") else BeautifulSoup(html.content, "html.parser")
    return re.sub(r"\s+", " ", node.get_text(" ")).strip()


def filled_in(answer: Any) -> dict[str, Any]:
    """What a browser would send of the page's form if its button were pressed."""
    form = BeautifulSoup(answer.content, "html.parser").select_one("#content-main form")
    assert form is not None, text(answer)
    data: dict[str, Any] = {}
    for field in form.select("input[name], select[name], textarea[name]"):
        name, kind = str(field["name"]), field.get("type", "")
        if kind in {"checkbox", "radio"}:
            if field.has_attr("checked"):
                value = str(field.get("value", "on"))
                data[name] = [*data.get(name, []), value] if kind == "checkbox" and field.get("value") else value
        elif field.name == "select":
            chosen = field.select_one("option[selected]") or field.select_one("option")
            data[name] = str(chosen.get("value", "")) if chosen else ""
        else:
            data[name] = field.get_text().strip() if field.name == "textarea" else str(field.get("value", ""))
    return data


def fill(client: Client, order: Order, name: str, **fields: Any) -> Any:
    """Open an action's page, fill in fields, press its button. Returns the answer to the POST."""
    page = client.get(url(order, name))
    assert page.status_code == 200
    return client.post(url(order, name), {**filled_in(page), "step": "confirm", **fields})


def page_of(approval: Approval) -> str:
    return reverse("admin:orders_approval_change", args=(approval.pk,))


def permissions(*codenames: str) -> QuerySet[Permission]:
    return Permission.objects.filter(codename__in=codenames)


def do(row: Any, name: str, model: str = "approval") -> str:
    return reverse(f"admin:orders_{model}_do", args=(row.pk, name))


def press(client: Client, address: str, **fields: Any) -> Any:
    """The same of any page with a form: fill in fields, press its button."""
    page = client.get(address)
    assert page.status_code == 200, page.status_code
    return client.post(address, {**filled_in(page), **fields})
