"""Webhooks: endpoints, and what they were told."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0001_initial'),
        ('shop', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='For staff: which system it is.', max_length=100, verbose_name='name')),
                ('url', models.CharField(help_text='Begins with https:// and leads to a public server.', max_length=500, verbose_name='address')),
                ('events', models.JSONField(default=list, verbose_name='events')),
                ('with_customer', models.BooleanField(default=False, help_text='Name, e-mail, phone and shipping address. Switch on only what the other system really needs.', verbose_name="with the customer's data")),
                ('secret', models.CharField(editable=False, max_length=100)),
                ('old_secret', models.CharField(blank=True, editable=False, max_length=100)),
                ('old_secret_until', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='old secret valid until')),
                ('is_active', models.BooleanField(default=True, editable=False, verbose_name='active')),
                ('failing_since', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='failing since')),
                ('disabled_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='switched off')),
                ('disabled_reason', models.CharField(blank=True, editable=False, max_length=300, verbose_name='why it is off')),
                ('created_at', models.DateTimeField(editable=False, verbose_name='created')),
                ('created_by', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='created by')),
                ('store', models.ForeignKey(blank=True, help_text='Empty: the orders of all stores.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='shop.store', verbose_name='store')),
            ],
            options={
                'verbose_name': 'webhook endpoint',
                'verbose_name_plural': 'webhook endpoints',
                'ordering': ['name', 'id'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('disabled_at', None), ('is_active', True)), models.Q(('disabled_at__isnull', False), ('is_active', False)), _connector='OR'), name='webhook_off_has_time')],
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.CharField(max_length=60, unique=True, verbose_name='event id')),
                ('type', models.CharField(max_length=40, verbose_name='event')),
                ('reference', models.CharField(blank=True, help_text="The order's number.", max_length=40, verbose_name='reference')),
                ('sequence', models.PositiveIntegerField(help_text="The order's version that it tells of.", verbose_name='number')),
                ('payload', models.TextField(verbose_name='payload')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('held', 'Waiting for an earlier one'), ('delivered', 'Delivered'), ('failed', 'Given up')], default='waiting', max_length=10, verbose_name='state')),
                ('round', models.PositiveIntegerField(default=1)),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='attempts')),
                ('last_status', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='last answer')),
                ('last_latency_ms', models.PositiveIntegerField(blank=True, null=True, verbose_name='took (ms)')),
                ('last_error', models.CharField(blank=True, max_length=500, verbose_name='last error')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('delivered_at', models.DateTimeField(blank=True, null=True, verbose_name='delivered')),
                ('replayed_at', models.DateTimeField(blank=True, null=True, verbose_name='sent again')),
                ('store', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='shop.store', verbose_name='store')),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='notifications.webhookendpoint', verbose_name='endpoint')),
            ],
            options={
                'verbose_name': 'webhook delivery',
                'verbose_name_plural': 'webhook deliveries',
                'ordering': ['-id'],
                'permissions': [('resend_webhookdelivery', 'Can send webhooks again')],
                'default_permissions': ('view',),
                'indexes': [
                    models.Index(condition=models.Q(('state__in', ['waiting', 'held'])), fields=['endpoint', 'reference', 'id'], name='webhook_open'),
                    models.Index(fields=['reference'], name='webhook_reference'),
                    models.Index(fields=['created_at'], name='webhook_created'),
                ],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('reference', ''), _negated=True), fields=('endpoint', 'reference', 'sequence', 'type'), name='webhook_told_once'),
                    models.CheckConstraint(condition=models.Q(models.Q(('state', 'delivered'), _negated=True), ('delivered_at__isnull', False), _connector='OR'), name='webhook_delivered_has_time'),
                ],
            },
        ),
    ]
