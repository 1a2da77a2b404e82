"""What the kernel shows in the admin: the inbox, maintenance, people, groups, stores and API tokens."""

from django.contrib import admin

from shop.admin.inbox import JobAdmin
from shop.admin.maintenance import MaintenanceAdmin
from shop.admin.people import PeopleAdmin, StoreAdmin
from shop.admin.tokens import ApiTokenAdmin
from shop.models import ApiToken, Job, Maintenance, Store, User

admin.site.register(Job, JobAdmin)
admin.site.register(Maintenance, MaintenanceAdmin)
admin.site.register(User, PeopleAdmin)
admin.site.register(Store, StoreAdmin)
admin.site.register(ApiToken, ApiTokenAdmin)
