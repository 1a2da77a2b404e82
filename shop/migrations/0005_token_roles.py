"""Who makes and revokes tokens of programs."""

from django.db import migrations

from shop.roles import ADMIN, grant


def fill(apps, schema_editor):
    grant(apps, {ADMIN: ["shop.add_apitoken", "shop.view_apitoken", "shop.revoke_apitoken"]})


class Migration(migrations.Migration):
    dependencies = [("shop", "0004_api_tokens")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
