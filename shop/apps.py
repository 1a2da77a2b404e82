"""App configuration of the kernel, and the admin site in its place."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class ShopConfig(AppConfig):
    default = True
    name = "shop"
    verbose_name = _("Desk")

    def ready(self) -> None:
        # Web and worker alike know the kinds of jobs of every installed app, a shop's own included.
        autodiscover_modules("tasks")


class DeskAdminConfig(admin_apps.AdminConfig):
    default = False
    default_site = "shop.site.DeskSite"
