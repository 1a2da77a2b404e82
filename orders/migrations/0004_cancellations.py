
import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('notifications', '0001_initial'),
        ('orders', '0003_name_prefix_index'),
        ('shop', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Absence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('starts_at', models.DateTimeField(verbose_name='from')),
                ('ends_at', models.DateTimeField(verbose_name='until')),
            ],
            options={
                'verbose_name': 'absence',
                'verbose_name_plural': 'absences',
                'ordering': ['-starts_at'],
            },
        ),
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('level', models.PositiveSmallIntegerField(verbose_name='level')),
                ('policies', models.JSONField(default=list, verbose_name='because of')),
                ('digest', models.CharField(help_text='SHA-256 of the plan: what was approved is what happens', max_length=64)),
                ('status', models.CharField(choices=[('open', 'Open'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn')], default='open', max_length=10, verbose_name='status')),
                ('justification', models.TextField(blank=True, verbose_name='why')),
                ('created_at', models.DateTimeField(verbose_name='asked')),
                ('remind_at', models.DateTimeField(blank=True, null=True)),
                ('escalate_at', models.DateTimeField(blank=True, null=True, verbose_name='goes up at')),
                ('escalations', models.PositiveSmallIntegerField(default=0, verbose_name='times escalated')),
                ('decided_at', models.DateTimeField(blank=True, null=True, verbose_name='decided')),
                ('note', models.TextField(blank=True, verbose_name='answer')),
            ],
            options={
                'verbose_name': 'approval',
                'verbose_name_plural': 'approvals',
                'ordering': ['-pk'],
                'permissions': [('decide_approval', 'Can approve and reject cancellations of others')],
            },
        ),
        migrations.CreateModel(
            name='ApprovalLevel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('level', models.PositiveSmallIntegerField(unique=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='level')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('remind_after_minutes', models.PositiveIntegerField(default=60, verbose_name='remind after (minutes)')),
                ('escalate_after_minutes', models.PositiveIntegerField(default=240, help_text='To the next level; at the highest, to the inbox.', verbose_name='escalate after (minutes)')),
            ],
            options={
                'verbose_name': 'approval level',
                'verbose_name_plural': 'approval levels',
                'ordering': ['level'],
            },
        ),
        migrations.CreateModel(
            name='ApprovalPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('stages', models.JSONField(blank=True, default=list, verbose_name='statuses of the order')),
                ('min_value', models.DecimalField(blank=True, decimal_places=3, max_digits=15, null=True, verbose_name='from this value on')),
                ('currency', models.CharField(blank=True, max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency')),
                ('staff_per_day', models.PositiveIntegerField(blank=True, help_text='When so many have been cancelled already.', null=True, verbose_name='orders by this person today')),
                ('staff_value_per_day', models.DecimalField(blank=True, decimal_places=3, help_text='When so much has been cancelled already, with this order; in the currency above.', max_digits=15, null=True, verbose_name='value by this person today')),
                ('customer_per_month', models.PositiveIntegerField(blank=True, null=True, verbose_name='orders of this customer in 30 days')),
                ('store_per_hour', models.PositiveIntegerField(blank=True, null=True, verbose_name='orders of the store within an hour')),
            ],
            options={
                'verbose_name': 'approval policy',
                'verbose_name_plural': 'approval policies',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='BulkItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveIntegerField(verbose_name='position')),
                ('version', models.PositiveIntegerField(help_text="the order's, when it was chosen")),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Cancelled'), ('refused', 'Not possible'), ('failed', 'Went wrong'), ('skipped', 'Not done')], default='waiting', max_length=10, verbose_name='state')),
                ('code', models.CharField(blank=True, max_length=50, verbose_name='code')),
                ('words', models.TextField(blank=True, verbose_name='why')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished')),
                ('told', models.BooleanField(default=False, help_text="the customer's message is promised")),
            ],
            options={
                'verbose_name': 'order of a bulk cancellation',
                'verbose_name_plural': 'orders of bulk cancellations',
                'ordering': ['run', 'position'],
            },
        ),
        migrations.CreateModel(
            name='BulkRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('once', models.UUIDField(default=uuid.uuid4, unique=True)),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('status', models.CharField(choices=[('waiting_approval', 'Waiting for approval'), ('running', 'Running'), ('paused', 'Paused'), ('stopped', 'Stopped'), ('finished', 'Finished')], max_length=20, verbose_name='status')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('restock', models.BooleanField(default=True, verbose_name='back into stock')),
                ('refund', models.BooleanField(default=True, verbose_name='refund')),
                ('notify', models.BooleanField(default=True, verbose_name='tell the customers')),
                ('try_first', models.PositiveIntegerField(blank=True, null=True, verbose_name='try first')),
                ('round', models.PositiveIntegerField(default=1)),
                ('created_at', models.DateTimeField(verbose_name='started')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished')),
            ],
            options={
                'verbose_name': 'bulk cancellation',
                'verbose_name_plural': 'bulk cancellations',
                'ordering': ['-pk'],
                'permissions': [('cancel_in_bulk', 'Can cancel many orders at once')],
            },
        ),
        migrations.CreateModel(
            name='Cancellation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('status', models.CharField(choices=[('waiting_approval', 'Waiting for approval'), ('queued', 'Waiting for the end of maintenance'), ('pending', 'Cancelled, can be undone'), ('done', 'Done'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn'), ('outdated', 'Overtaken by events'), ('undone', 'Undone')], max_length=20, verbose_name='status')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('lines', models.JSONField(null=True)),
                ('restock', models.BooleanField(default=True, verbose_name='back into stock')),
                ('refund', models.BooleanField(default=True, verbose_name='refund')),
                ('notify', models.BooleanField(default=True, verbose_name='tell the customer')),
                ('ends_series', models.BooleanField(default=False, verbose_name='all future orders too')),
                ('plan', models.JSONField(default=dict)),
                ('version', models.PositiveIntegerField(help_text="the order's, when it was asked for")),
                ('cause', models.CharField(blank=True, max_length=150, null=True, unique=True)),
                ('contact_name', models.CharField(blank=True, max_length=200, verbose_name='asked for by')),
                ('contact_channel', models.CharField(blank=True, choices=[('phone', 'Telephone'), ('email', 'E-mail'), ('chat', 'Chat'), ('letter', 'Letter'), ('in_person', 'In person'), ('other', 'Otherwise')], max_length=20, verbose_name='how')),
                ('contact_details', models.CharField(blank=True, max_length=200, verbose_name='telephone number or address')),
                ('contact_at', models.DateTimeField(blank=True, null=True, verbose_name='asked for at')),
                ('stage', models.CharField(max_length=50, verbose_name='status before')),
                ('units', models.PositiveIntegerField(default=0, verbose_name='units')),
                ('currency', models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency')),
                ('value', models.DecimalField(decimal_places=3, default=0, max_digits=15, verbose_name='value')),
                ('ends_order', models.BooleanField(default=False, verbose_name='the whole order')),
                ('unusual', models.JSONField(blank=True, default=list, verbose_name='unusual')),
                ('actor_kind', models.CharField(max_length=10)),
                ('requested_by_name', models.CharField(max_length=200, verbose_name='by')),
                ('created_at', models.DateTimeField(db_index=True, verbose_name='asked')),
                ('done_at', models.DateTimeField(blank=True, null=True, verbose_name='cancelled')),
                ('undo_until', models.DateTimeField(blank=True, null=True, verbose_name='can be undone until')),
                ('undone_at', models.DateTimeField(blank=True, null=True, verbose_name='undone')),
                ('undone_by', models.CharField(blank=True, max_length=200, verbose_name='undone by')),
                ('outcome', models.TextField(blank=True, verbose_name='what became of it')),
            ],
            options={
                'verbose_name': 'cancellation',
                'verbose_name_plural': 'cancellations',
                'ordering': ['-pk'],
                'permissions': [('undo_cancellation', 'Can undo cancellations and reinstate orders')],
            },
        ),
        migrations.CreateModel(
            name='CancelRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(blank=True, help_text='Such as “web”. Empty: all.', max_length=30, verbose_name='channel')),
                ('direct_statuses', models.JSONField(default=list, help_text='In these statuses of the order, what a customer cancels is cancelled at once.', verbose_name='cancelled at once in')),
                ('refuses_invoiced', models.BooleanField(default=False, verbose_name='not once there is an invoice')),
                ('time_limit_minutes', models.PositiveIntegerField(blank=True, help_text='Empty: no limit.', null=True, validators=[django.core.validators.MaxValueValidator(10000000)], verbose_name='minutes after the order')),
                ('asks_in_other_statuses', models.BooleanField(default=True, help_text='Off: it is refused.', verbose_name='in other statuses, a person decides')),
                ('asks_when_invoiced', models.BooleanField(default=False, help_text='Off: it is refused.', verbose_name='with an invoice, a person decides')),
                ('asks_when_late', models.BooleanField(default=False, help_text='Off: it is refused.', verbose_name='after the time limit, a person decides')),
                ('undo_minutes', models.PositiveIntegerField(default=0, help_text='For so long, what staff cancelled can be undone; stock, money and messages wait. 0: at once.', validators=[django.core.validators.MaxValueValidator(1440)], verbose_name='minutes to undo')),
            ],
            options={
                'verbose_name': 'cancel rule',
                'verbose_name_plural': 'cancel rules',
                'ordering': ['store', 'channel'],
            },
        ),
        migrations.AlterModelOptions(
            name='order',
            options={'ordering': ['-placed_at', '-pk'], 'permissions': [('approve_order', 'Can approve orders'), ('prepare_order', 'Can prepare orders'), ('charge_order', 'Can take and record payments'), ('ship_order', 'Can ship orders and hand them over'), ('cancel_order', 'Can cancel orders'), ('cancel_prepared_order', 'Can cancel orders that are being prepared without asking'), ('cancel_for_any_reason', 'Can cancel without a customer having asked for it'), ('return_order', 'Can take back goods'), ('refund_order', 'Can refund money'), ('hold_order', 'Can hold and release orders'), ('readdress_order', 'Can change addresses of orders'), ('note_order', 'Can write notes on orders')], 'verbose_name': 'order', 'verbose_name_plural': 'orders'},
        ),
        migrations.RemoveConstraint(
            model_name='communicationevent',
            name='communication_event_message_once',
        ),
        migrations.AddField(
            model_name='cancellationreason',
            name='asks_contact',
            field=models.BooleanField(default=False, help_text='Staff say who asked for it, how and when, and the customer gets a confirmation.', verbose_name='asks who wanted it'),
        ),
        migrations.AddField(
            model_name='cancellationreason',
            name='names',
            field=models.JSONField(blank=True, default=dict, help_text='language → name', verbose_name='names in other languages'),
        ),
        migrations.AddField(
            model_name='cancellationreason',
            name='needs_approval',
            field=models.BooleanField(default=False, help_text='Somebody else has to agree, whatever the policies say.', verbose_name='needs approval'),
        ),
        migrations.AddField(
            model_name='cancellationreason',
            name='restocks',
            field=models.BooleanField(default=True, help_text='What the dialog suggests. Off: they are set aside to be inspected.', verbose_name='goods go back into stock'),
        ),
        migrations.AddField(
            model_name='order',
            name='channel',
            field=models.CharField(default='web', help_text='Where it was placed.', max_length=30, verbose_name='channel'),
        ),
        migrations.AddField(
            model_name='order',
            name='payment_awaited_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='order',
            name='undo_until',
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='can be undone until'),
        ),
        migrations.AddConstraint(
            model_name='communicationevent',
            constraint=models.UniqueConstraint(fields=('order', 'message'), name='communication_event_message_once'),
        ),
        migrations.AddField(
            model_name='absence',
            name='delegate',
            field=models.ForeignKey(blank=True, help_text='Empty: nobody; the other approvers do.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='who decides instead'),
        ),
        migrations.AddField(
            model_name='absence',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='absences', to=settings.AUTH_USER_MODEL, verbose_name='who is away'),
        ),
        migrations.AddField(
            model_name='approval',
            name='decided_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='decided by'),
        ),
        migrations.AddField(
            model_name='approval',
            name='instead_of',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='instead of'),
        ),
        migrations.AddField(
            model_name='approval',
            name='requested_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='asked for by'),
        ),
        migrations.AddField(
            model_name='approval',
            name='store',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='shop.store', verbose_name='store'),
        ),
        migrations.AddField(
            model_name='approvallevel',
            name='group',
            field=models.ForeignKey(help_text='Members may approve at this level and below it, in the stores they work in.', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='auth.group', verbose_name='approvers'),
        ),
        migrations.AddField(
            model_name='approvalpolicy',
            name='level',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='policies', to='orders.approvallevel', verbose_name='needs'),
        ),
        migrations.AddField(
            model_name='approvalpolicy',
            name='reasons',
            field=models.ManyToManyField(blank=True, related_name='+', to='orders.cancellationreason', verbose_name='reasons'),
        ),
        migrations.AddField(
            model_name='approvalpolicy',
            name='roles',
            field=models.ManyToManyField(blank=True, help_text='People whose roles are all among these. Empty: everybody.', related_name='+', to='auth.group', verbose_name='asked for by'),
        ),
        migrations.AddField(
            model_name='approvalpolicy',
            name='store',
            field=models.ForeignKey(blank=True, help_text='Empty: all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop.store', verbose_name='store'),
        ),
        migrations.AddField(
            model_name='bulkitem',
            name='order',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.order', verbose_name='order'),
        ),
        migrations.AddField(
            model_name='bulkrun',
            name='created_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='by'),
        ),
        migrations.AddField(
            model_name='bulkrun',
            name='reason',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.cancellationreason', verbose_name='reason'),
        ),
        migrations.AddField(
            model_name='bulkitem',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='items', to='orders.bulkrun', verbose_name='run'),
        ),
        migrations.AddField(
            model_name='approval',
            name='bulk_run',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='approval', to='orders.bulkrun', verbose_name='bulk run'),
        ),
        migrations.AddField(
            model_name='cancellation',
            name='event',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='cancellation', to='orders.shippingevent'),
        ),
        migrations.AddField(
            model_name='cancellation',
            name='order',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cancellations', to='orders.order', verbose_name='order'),
        ),
        migrations.AddField(
            model_name='cancellation',
            name='reason',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.cancellationreason', verbose_name='reason'),
        ),
        migrations.AddField(
            model_name='cancellation',
            name='requested_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='by'),
        ),
        migrations.AddField(
            model_name='bulkitem',
            name='cancellation',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bulk_items', to='orders.cancellation', verbose_name='cancellation'),
        ),
        migrations.AddField(
            model_name='approval',
            name='cancellation',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='approval', to='orders.cancellation', verbose_name='cancellation'),
        ),
        migrations.AddField(
            model_name='cancelrule',
            name='store',
            field=models.ForeignKey(blank=True, help_text='Empty: all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop.store', verbose_name='store'),
        ),
        migrations.AddConstraint(
            model_name='absence',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at'))), name='absence_ends_after_start', violation_error_message='It has to end after it begins.'),
        ),
        migrations.AddConstraint(
            model_name='absence',
            constraint=models.CheckConstraint(condition=models.Q(('delegate__isnull', True), models.Q(('delegate', models.F('user')), _negated=True), _connector='OR'), name='absence_delegate_is_another', violation_error_message='Name somebody else.'),
        ),
        migrations.AddConstraint(
            model_name='approvallevel',
            constraint=models.CheckConstraint(condition=models.Q(('level__gte', 1)), name='approval_level_positive'),
        ),
        migrations.AddConstraint(
            model_name='approvalpolicy',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('min_value__isnull', True), ('staff_value_per_day__isnull', True)), models.Q(('currency', ''), _negated=True), _connector='OR'), name='approval_policy_money_has_currency', violation_error_message='Say in which currency the value is.'),
        ),
        migrations.AddIndex(
            model_name='cancellation',
            index=models.Index(fields=['requested_by', 'created_at'], name='cancellation_by_whom'),
        ),
        migrations.AddIndex(
            model_name='cancellation',
            index=models.Index(condition=models.Q(('status', 'waiting_approval')), fields=['created_at'], name='cancellation_waiting'),
        ),
        migrations.AddConstraint(
            model_name='cancellation',
            constraint=models.UniqueConstraint(condition=models.Q(('status__in', ['waiting_approval', 'queued'])), fields=('order',), name='cancellation_one_waiting_per_order'),
        ),
        migrations.AddConstraint(
            model_name='cancellation',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['pending', 'done', 'undone']), _negated=True), ('event__isnull', False), _connector='OR'), name='cancellation_effect_has_event'),
        ),
        migrations.AddIndex(
            model_name='bulkitem',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['run', 'position'], name='bulk_item_waiting'),
        ),
        migrations.AddConstraint(
            model_name='bulkitem',
            constraint=models.UniqueConstraint(fields=('run', 'order'), name='bulk_item_order_once'),
        ),
        migrations.AddConstraint(
            model_name='bulkitem',
            constraint=models.UniqueConstraint(fields=('run', 'position'), name='bulk_item_position_once'),
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(condition=models.Q(('status', 'open')), fields=['escalate_at'], name='approval_open'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('decided_by__isnull', True), models.Q(('decided_by', models.F('requested_by')), _negated=True), ('status', 'withdrawn'), _connector='OR'), name='approval_not_by_the_one_who_asked'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['open', 'withdrawn']), models.Q(('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='approval_decided_by_somebody'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('bulk_run__isnull', True), ('cancellation__isnull', False)), models.Q(('bulk_run__isnull', False), ('cancellation__isnull', True)), _connector='OR'), name='approval_of_one_thing'),
        ),
        migrations.AddConstraint(
            model_name='cancelrule',
            constraint=models.UniqueConstraint(condition=models.Q(('store__isnull', False)), fields=('store', 'channel'), name='cancel_rule_once'),
        ),
        migrations.AddConstraint(
            model_name='cancelrule',
            constraint=models.UniqueConstraint(condition=models.Q(('store__isnull', True)), fields=('channel',), name='cancel_rule_everywhere_once'),
        ),
        migrations.AddConstraint(
            model_name='cancelrule',
            constraint=models.CheckConstraint(condition=models.Q(('undo_minutes__lte', 1440)), name='cancel_rule_undo_a_day'),
        ),
    ]
