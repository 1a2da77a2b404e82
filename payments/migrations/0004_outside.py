"""What gateways tell by themselves: webhooks received, disputes, movements made elsewhere; who may see them."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from shop.roles import MANAGER, SERVICE, grant

VIEW = ["payments.view_dispute"]
PERMISSIONS = {
    MANAGER: [*VIEW, "payments.view_webhookreceived", "payments.replay_webhookreceived"],
    SERVICE: VIEW,
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0003_credit_roles'),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.CreateModel(
            name='Dispute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('gateway_reference', models.CharField(max_length=200, verbose_name='reference at the gateway')),
                ('amount', models.DecimalField(decimal_places=3, max_digits=15, verbose_name='amount')),
                ('currency', models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency')),
                ('status', models.CharField(choices=[('needs_response', 'To be answered'), ('under_review', 'With the bank'), ('won', 'Won'), ('lost', 'Lost')], default='needs_response', max_length=15, verbose_name='status')),
                ('reason', models.CharField(blank=True, max_length=100, verbose_name='reason')),
                ('respond_by', models.DateTimeField(blank=True, null=True, verbose_name='answer by')),
                ('opened_at', models.DateTimeField(verbose_name='opened')),
                ('ended_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('chargeback', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='dispute', to='payments.transaction', verbose_name='chargeback')),
                ('payment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='disputes', to='payments.payment', verbose_name='payment')),
            ],
            options={
                'verbose_name': 'dispute',
                'verbose_name_plural': 'disputes',
                'ordering': ['-id'],
                'constraints': [
                    models.UniqueConstraint(fields=('payment', 'gateway_reference'), name='dispute_once'),
                    models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='dispute_of_something'),
                    models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', False), ('status__in', ['won', 'lost'])), models.Q(models.Q(('status__in', ['won', 'lost']), _negated=True), ('ended_at__isnull', True)), _connector='OR'), name='dispute_ended_has_date'),
                    models.CheckConstraint(condition=models.Q(('chargeback__isnull', True), ('status', 'lost'), _connector='OR'), name='dispute_only_lost_is_charged_back'),
                ],
            },
        ),
        migrations.CreateModel(
            name='WebhookReceived',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('gateway', models.CharField(max_length=30, verbose_name='gateway')),
                ('event_id', models.CharField(max_length=200, verbose_name='event')),
                ('kind', models.CharField(max_length=100, verbose_name='kind')),
                ('body', models.JSONField(default=dict, verbose_name='body')),
                ('reference', models.CharField(blank=True, db_index=True, max_length=40, verbose_name='reference')),
                ('outcome', models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('ignored', 'Ignored')], default='waiting', max_length=8, verbose_name='outcome')),
                ('told', models.CharField(blank=True, max_length=500, verbose_name='what became of it')),
                ('replays', models.PositiveSmallIntegerField(default=0, verbose_name='processed again')),
                ('received_at', models.DateTimeField(verbose_name='received')),
                ('processed_at', models.DateTimeField(blank=True, null=True, verbose_name='processed')),
            ],
            options={
                'verbose_name': 'received webhook',
                'verbose_name_plural': 'received webhooks',
                'ordering': ['-id'],
                'permissions': [('replay_webhookreceived', 'Can process received webhooks again')],
                'constraints': [
                    models.UniqueConstraint(fields=('gateway', 'event_id'), name='webhook_received_once'),
                    models.CheckConstraint(condition=models.Q(models.Q(('outcome', 'waiting'), ('processed_at__isnull', True)), models.Q(models.Q(('outcome', 'waiting'), _negated=True), ('processed_at__isnull', False)), _connector='OR'), name='webhook_processed_has_outcome'),
                ],
            },
        ),
        migrations.AddField(
            model_name='demogatewayentry',
            name='merchant_reference',
            field=models.CharField(blank=True, max_length=40, verbose_name="the shop's reference"),
        ),
        migrations.AddField(
            model_name='refund',
            name='origin',
            field=models.CharField(choices=[('desk', 'This desk'), ('outside', 'Made at the gateway'), ('chargeback', 'Chargeback')], default='desk', max_length=10, verbose_name='made by'),
        ),
        migrations.AddField(
            model_name='transaction',
            name='next_action',
            field=models.JSONField(blank=True, default=dict, editable=False, help_text='while pending: what the customer has to do'),
        ),
        migrations.AddField(
            model_name='transaction',
            name='origin',
            field=models.CharField(choices=[('desk', 'This desk'), ('outside', 'Made at the gateway'), ('chargeback', 'Chargeback')], default='desk', max_length=10, verbose_name='made by'),
        ),
        migrations.AddIndex(
            model_name='transaction',
            index=models.Index(condition=models.Q(('gateway_reference', ''), _negated=True), fields=['gateway_reference'], name='transaction_at_gateway'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
