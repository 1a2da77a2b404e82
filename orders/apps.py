"""App configuration of orders."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrdersConfig(AppConfig):
    name = "orders"
    verbose_name = _("Orders")

    def ready(self) -> None:
        # Every process that promises or performs jobs knows their handlers; checks speak up at start.
        from orders import checks, tasks  # noqa: F401 - models must be loaded first
