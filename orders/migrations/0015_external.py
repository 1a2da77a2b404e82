"""Calls of the order management system and its notices, addresses that wait for approval, units withheld meanwhile."""

import uuid

import django.db.models.deletion
import django.db.models.expressions
from django.conf import settings
from django.db import migrations, models

from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

VIEW = ["orders.view_addresschange"]


def fill(apps, schema_editor):
    grant(apps, {MANAGER: VIEW, FULFILMENT: VIEW, SERVICE: VIEW})


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0002_return_exemption'),
        ('orders', '0014_refund_destinations'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AddressChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('actor_kind', models.CharField(max_length=10)),
                ('actor_name', models.CharField(max_length=200, verbose_name='by')),
                ('created_at', models.DateTimeField(verbose_name='asked')),
                ('shipping', models.BooleanField(default=True, verbose_name='shipping address')),
                ('billing', models.BooleanField(default=False, verbose_name='billing address')),
                ('status', models.CharField(choices=[('asked', 'The other system is being asked'), ('waiting', 'Waiting for approval'), ('done', 'Changed'), ('rejected', 'Rejected'), ('superseded', 'Replaced by a newer one'), ('overtaken', 'Overtaken by events')], max_length=12, verbose_name='status')),
                ('decided_at', models.DateTimeField(blank=True, null=True, verbose_name='decided')),
                ('decided_by', models.CharField(blank=True, max_length=200, verbose_name='decided by')),
                ('decision_note', models.TextField(blank=True, verbose_name='answer')),
                ('address', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.orderaddress', verbose_name='address')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='address_changes', to='orders.order', verbose_name='order')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'address change',
                'verbose_name_plural': 'address changes',
                'ordering': ['-pk'],
                'default_permissions': ('view',),
                'indexes': [models.Index(condition=models.Q(('status', 'waiting')), fields=['created_at'], name='address_change_open')],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('status__in', ['asked', 'waiting'])), fields=('order',), name='address_change_one_open_per_order'),
                    models.CheckConstraint(condition=models.Q(('shipping', True), ('billing', True), _connector='OR'), name='address_change_of_something'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ExternalCall',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('actor_kind', models.CharField(max_length=10)),
                ('actor_name', models.CharField(max_length=200, verbose_name='by')),
                ('created_at', models.DateTimeField(verbose_name='asked')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, help_text='the idempotency key', unique=True)),
                ('kind', models.CharField(choices=[('cancel', 'Cancel units'), ('address', 'Change the address')], max_length=10, verbose_name='what')),
                ('origin', models.CharField(choices=[('customer', 'Asked for a customer'), ('desk', 'Reported by the desk')], max_length=10, verbose_name='why')),
                ('status', models.CharField(choices=[('asked', 'Being asked'), ('accepted', 'Accepted, not confirmed yet'), ('done', 'Done'), ('refused', 'Refused'), ('failed', 'Not reached'), ('unknown', 'Outcome unknown'), ('disputed', 'Their answers contradict each other')], default='asked', max_length=10, verbose_name='status')),
                ('cause', models.CharField(blank=True, max_length=150, null=True, unique=True)),
                ('units', models.JSONField(default=dict)),
                ('wishes', models.JSONField(default=list)),
                ('pictures', models.JSONField(default=list)),
                ('requests', models.JSONField(default=list)),
                ('reason', models.CharField(blank=True, max_length=50, verbose_name='reason')),
                ('as_points', models.BooleanField(default=False)),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('shipping', models.BooleanField(default=False)),
                ('billing', models.BooleanField(default=False)),
                ('http_status', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='HTTP status')),
                ('reply', models.CharField(blank=True, max_length=500, verbose_name='what they said')),
                ('answered_at', models.DateTimeField(blank=True, null=True, verbose_name='last answer')),
                ('settled_at', models.DateTimeField(blank=True, null=True, verbose_name='decided')),
                ('address', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.orderaddress')),
                ('after', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.externalcall')),
                ('change', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='calls', to='orders.addresschange')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='external_calls', to='orders.order', verbose_name='order')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'call of the order management system',
                'verbose_name_plural': 'calls of the order management system',
                'ordering': ['-pk'],
                'default_permissions': (),
                'indexes': [models.Index(condition=models.Q(('status__in', ['asked', 'accepted', 'unknown'])), fields=['created_at'], name='external_call_undecided')],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('kind', 'cancel'), ('origin', 'customer'), ('status', 'asked')), fields=('order',), name='external_call_one_cancel_asked'),
                    models.CheckConstraint(condition=models.Q(models.Q(('address', None), ('kind', 'cancel')), models.Q(('address__isnull', False), ('kind', 'address')), _connector='OR'), name='external_call_about_something'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ExternalNotice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.CharField(max_length=200, unique=True, verbose_name='event')),
                ('type', models.CharField(max_length=100, verbose_name='kind')),
                ('body', models.JSONField(default=dict, verbose_name='body')),
                ('reference', models.CharField(blank=True, db_index=True, max_length=40, verbose_name='order')),
                ('outcome', models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('ignored', 'Ignored')], default='waiting', max_length=8, verbose_name='outcome')),
                ('told', models.CharField(blank=True, max_length=500, verbose_name='what became of it')),
                ('received_at', models.DateTimeField(verbose_name='received')),
                ('processed_at', models.DateTimeField(blank=True, null=True, verbose_name='processed')),
            ],
            options={
                'verbose_name': 'notice of the order management system',
                'verbose_name_plural': 'notices of the order management system',
                'ordering': ['-pk'],
                'default_permissions': ('view',),
            },
        ),
        migrations.AddField(
            model_name='order',
            name='readdress_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='orderline',
            name='withheld',
            field=models.PositiveIntegerField(default=0, editable=False),
        ),
        migrations.AddConstraint(
            model_name='orderline',
            constraint=models.CheckConstraint(condition=models.Q(('quantity__gte', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('cancelled'), '+', models.F('shipped')), '+', models.F('withheld')))), name='line_withheld_is_left'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
