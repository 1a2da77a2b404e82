"""The reasons to choose from in German and Turkish; names that the shop has written itself stay."""

from django.db import migrations

NAMES = {
    "changed_mind": ("Ich habe es mir anders überlegt", "Fikrimi değiştirdim"),
    "better_price": ("Anderswo günstiger gefunden", "Daha uygun fiyat buldum"),
    "no_longer_needed": ("Nicht mehr benötigt", "Artık ihtiyacım yok"),
    "arrived_damaged": ("Beschädigt oder falsch angekommen", "Hasarlı veya yanlış geldi"),
    "submitted_twice": ("Versehentlich doppelt bestellt", "Yanlışlıkla iki kez sipariş verildi"),
    "out_of_stock": ("Nicht vorrätig", "Stokta yok"),
    "payment_overdue": ("Nicht rechtzeitig bezahlt", "Zamanında ödenmedi"),
    "withdrawal": ("Widerruf des Vertrags", "Sözleşmeden cayma"),
}


def fill(apps, schema_editor):
    reasons = apps.get_model("orders", "CancellationReason").objects
    for reason in reasons.filter(code__in=NAMES):
        german, turkish = NAMES[reason.code]
        reason.names = {"de": german, "tr": turkish, **reason.names}
        reason.save(update_fields=["names"])


class Migration(migrations.Migration):
    dependencies = [("orders", "0018_repricing")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
