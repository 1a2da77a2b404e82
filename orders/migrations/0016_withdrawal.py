"""Withdrawals from a contract: what was declared and what became of it; its reason, and who may see it."""

import uuid

import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

VIEW = ["orders.view_withdrawal"]
REASON = {
    "category": "customer_requested",
    "name": "Withdrawal from the contract",
    "names": {"de": "Widerruf des Vertrags", "tr": "Sözleşmeden cayma"},
    "shown_to_customers": False,
    "position": 200,
}


def fill(apps, schema_editor):
    grant(apps, {MANAGER: VIEW, FULFILMENT: VIEW, SERVICE: VIEW})
    apps.get_model("orders", "CancellationReason").objects.get_or_create(code="withdrawal", defaults=REASON)


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0015_external'),
    ]

    operations = [
        migrations.CreateModel(
            name='Withdrawal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('key', models.CharField(editable=False, max_length=40, unique=True)),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('number', models.CharField(help_text='The order number as it was typed.', max_length=64, verbose_name='contract')),
                ('email', models.EmailField(max_length=254, verbose_name='receipt to')),
                ('text', models.TextField(blank=True, verbose_name='message')),
                ('language', models.CharField(default=settings.LANGUAGE_CODE, max_length=10, verbose_name='language')),
                ('lines', models.JSONField(null=True)),
                ('declared_at', models.DateTimeField(db_index=True, verbose_name='declared')),
                ('deadline', models.DateTimeField(blank=True, null=True, verbose_name='possible until')),
                ('in_time', models.BooleanField(null=True, verbose_name='in time')),
                ('status', models.CharField(choices=[('received', 'Received'), ('carried_out', 'Carried out'), ('needs_person', 'Needs a person'), ('answered', 'Answered by a person')], default='received', max_length=20, verbose_name='status')),
                ('result', models.JSONField(blank=True, default=dict)),
                ('problem', models.TextField(blank=True, verbose_name='why a person is needed')),
                ('answered_at', models.DateTimeField(blank=True, null=True, verbose_name='answered')),
                ('answered_by', models.CharField(blank=True, max_length=200, verbose_name='answered by')),
                ('answer', models.TextField(blank=True, verbose_name='answer')),
                ('event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.shippingevent', verbose_name='cancelled with')),
                ('goods_return', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to='orders.return', verbose_name='return')),
                ('order', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to='orders.order', verbose_name='order')),
                ('requests', models.ManyToManyField(related_name='withdrawals', to='orders.cancellationrequest', verbose_name='requests')),
            ],
            options={
                'verbose_name': 'withdrawal',
                'verbose_name_plural': 'withdrawals',
                'ordering': ['-pk'],
                'default_permissions': ('view',),
                'indexes': [models.Index(django.db.models.functions.text.Upper('email'), models.F('declared_at'), name='withdrawal_by_email'), models.Index(condition=models.Q(('status__in', ['received', 'needs_person'])), fields=['declared_at'], name='withdrawal_open')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('status', 'carried_out'), _negated=True), ('order__isnull', False), _connector='OR'), name='withdrawal_carried_out_of_order')],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
