"""The roles of staff as groups: what each may do. Migrations call `grant`; later changes are the shop's own, in admin.

Admin            everything, in every store
Store Manager    everything about orders, stock and money of their own stores
Fulfilment       prepares, ships, hands over, takes back in their own stores; cancels, from preparing on with approval
Customer Service cancels what customers asked to have cancelled, re-addresses and answers customers, in every store
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions

ADMIN, MANAGER, FULFILMENT, SERVICE = "Admin", "Store Manager", "Fulfilment", "Customer Service"
ROLES = (ADMIN, MANAGER, FULFILMENT, SERVICE)


def grant(apps: Any, permissions: Mapping[str, Iterable[str]]) -> None:
    """This will give roles permissions (role → "app.codename"), creating groups and permissions that are not there yet.

    For migrations. Admin gets every permission of the apps named by any role; what a role has already, it keeps.
    """
    group_model = apps.get_model("auth", "Group")
    permission_model = apps.get_model("auth", "Permission")
    labels = {name.partition(".")[0] for names in permissions.values() for name in names}
    for label in labels:
        # Django creates permissions after all migrations; a migration that hands them out has to do it before.
        config = installed.get_app_config(label)
        create_permissions(config, apps=apps, verbosity=0)
    for role in ROLES:
        group, _new = group_model.objects.get_or_create(name=role)
        if role == ADMIN:
            group.permissions.add(*permission_model.objects.filter(content_type__app_label__in=labels))
        for name in permissions.get(role, ()):
            label, _dot, codename = name.partition(".")
            group.permissions.add(permission_model.objects.get(content_type__app_label=label, codename=codename))
