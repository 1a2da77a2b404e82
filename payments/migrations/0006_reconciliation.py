"""Comparisons of gateways' books with ours, the differences they found, and who may see to them."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from shop.roles import MANAGER, SERVICE, grant

VIEW = ["payments.view_reconciliation", "payments.view_difference"]
PERMISSIONS = {
    MANAGER: [*VIEW, "payments.run_reconciliation", "payments.accept_difference"],
    SERVICE: ["payments.view_difference"],
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0005_refund_destinations'),
        ('shop', '0005_token_roles'),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Reconciliation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('gateway', models.CharField(max_length=30, verbose_name='gateway')),
                ('since', models.DateTimeField(verbose_name='from')),
                ('until', models.DateTimeField(verbose_name='until')),
                ('started_at', models.DateTimeField(verbose_name='started')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished')),
                ('state', models.CharField(choices=[('running', 'Under way'), ('needs_attention', 'Waits for a person'), ('done', 'Done'), ('failed', 'Given up')], default='running', max_length=15, verbose_name='state')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='error')),
                ('listed', models.PositiveIntegerField(default=0, verbose_name='movements at the gateway')),
                ('others', models.PositiveIntegerField(default=0, verbose_name="not this desk's")),
                ('found', models.PositiveIntegerField(default=0, verbose_name='new differences')),
                ('resolved', models.PositiveIntegerField(default=0, verbose_name='resolved')),
                ('settled', models.PositiveIntegerField(default=0, verbose_name='put right')),
                ('asked_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='asked by')),
            ],
            options={
                'verbose_name': 'reconciliation',
                'verbose_name_plural': 'reconciliations',
                'ordering': ['-id'],
                'permissions': [('run_reconciliation', 'Can compare the books with gateways')],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('finished_at__isnull', True)), fields=('gateway',), name='reconciliation_one_at_a_time'),
                    models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('state__in', ['done', 'failed'])), models.Q(models.Q(('state__in', ['done', 'failed']), _negated=True), ('finished_at__isnull', True)), _connector='OR'), name='reconciliation_finished_has_state'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Difference',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('gateway', models.CharField(max_length=30, verbose_name='gateway')),
                ('kind', models.CharField(choices=[('missing_here', 'Missing here'), ('missing_there', 'Missing at the gateway'), ('amount', 'Amount differs'), ('status', 'Status differs'), ('chargeback', 'Chargeback')], max_length=15, verbose_name='kind')),
                ('thing', models.CharField(max_length=300)),
                ('operation', models.CharField(max_length=10, verbose_name='movement')),
                ('reference', models.CharField(blank=True, db_index=True, max_length=40, verbose_name='reference')),
                ('gateway_reference', models.CharField(blank=True, db_index=True, max_length=200, verbose_name='reference at the gateway')),
                ('currency', models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency')),
                ('our_amount', models.DecimalField(blank=True, decimal_places=3, max_digits=15, null=True, verbose_name='amount here')),
                ('our_status', models.CharField(blank=True, max_length=15, verbose_name='status here')),
                ('their_amount', models.DecimalField(blank=True, decimal_places=3, max_digits=15, null=True, verbose_name='amount at the gateway')),
                ('their_status', models.CharField(blank=True, max_length=15, verbose_name='status at the gateway')),
                ('told', models.CharField(blank=True, max_length=500, verbose_name='why the desk could not put it right')),
                ('happened_at', models.DateTimeField(verbose_name='moved')),
                ('first_seen_at', models.DateTimeField(verbose_name='first seen')),
                ('last_seen_at', models.DateTimeField(verbose_name='last seen')),
                ('state', models.CharField(choices=[('open', 'Open'), ('done', 'Resolved'), ('accepted', 'Accepted')], default='open', max_length=10, verbose_name='state')),
                ('resolved_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('resolved_by', models.CharField(blank=True, help_text='Empty: by itself.', max_length=150, verbose_name='ended by')),
                ('how', models.CharField(blank=True, max_length=1000, verbose_name='what became of it')),
                ('payment', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='differences', to='payments.payment', verbose_name='payment')),
                ('store', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='shop.store', verbose_name='store')),
                ('transaction', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='differences', to='payments.transaction', verbose_name='transaction')),
                ('found_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='differences', to='payments.reconciliation', verbose_name='found by')),
            ],
            options={
                'verbose_name': 'difference',
                'verbose_name_plural': 'differences',
                'ordering': ['-id'],
                'permissions': [('accept_difference', 'Can accept differences between the books')],
                'indexes': [
                    models.Index(fields=['gateway', 'thing'], name='difference_thing'),
                    models.Index(condition=models.Q(('state', 'open')), fields=['gateway', 'happened_at'], name='difference_open'),
                ],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('state', 'open')), fields=('gateway', 'kind', 'thing'), name='difference_open_once'),
                    models.CheckConstraint(condition=models.Q(models.Q(('resolved_at__isnull', True), ('state', 'open')), models.Q(models.Q(('state', 'open'), _negated=True), ('resolved_at__isnull', False)), _connector='OR'), name='difference_ended_has_date'),
                ],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
