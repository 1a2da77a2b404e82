"""App configuration of payments: makes its job handlers known to every process, and checks the gateways' setting."""

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _


class PaymentsConfig(AppConfig):
    name = "payments"
    verbose_name = _("Payments")

    def ready(self) -> None:
        # Models exist only from here on. A job can be promised in any process, so each must know the handlers.
        from payments import gateways, tasks  # noqa: F401

        checks.register(gateways.check_gateways)
        checks.register(gateways.check_stripe)
        checks.register(gateways.check_no_demo_gateway, checks.Tags.security, deploy=True)
