"""Goods that come back: policies, shipping companies, parcels, inspections, pictures; and who may see them."""

import uuid

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import orders.models.returns
from shop.roles import FULFILMENT, MANAGER, SERVICE, grant

VIEW = ["orders.view_return", "orders.view_inspection", "orders.view_requestpicture"]
PERMISSIONS = {
    MANAGER: [
        *VIEW,
        *(f"orders.{verb}_{model}" for verb in ("view", "add", "change") for model in ("returnpolicy", "returncarrier")),
    ],
    FULFILMENT: VIEW,
    SERVICE: VIEW,
}


def fill(apps, schema_editor):
    grant(apps, PERMISSIONS)
    reasons = apps.get_model("orders", "CancellationReason").objects
    reasons.filter(code="arrived_damaged").update(shops_fault=True)
    arrived = (
        apps.get_model("orders", "ShippingEventQuantity")
        .objects.filter(line=models.OuterRef("pk"), event__event_type__code="delivered")
        .order_by("-event__created_at")
        .values("event__created_at")[:1]
    )
    lines = apps.get_model("orders", "OrderLine").objects.filter(delivered__gt=0)
    lines.update(delivered_at=models.Subquery(arrived))


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0012_bulk_runs'),
        ('shop', '0005_token_roles'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ReturnCarrier',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.SlugField(unique=True, verbose_name='code')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('fetches', models.BooleanField(default=False, verbose_name='fetches at the door')),
                ('instructions', models.TextField(blank=True, help_text='Such as where to hand the parcel in.', verbose_name='what the customer has to do')),
                ('position', models.PositiveSmallIntegerField(default=0, verbose_name='position')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
            ],
            options={
                'verbose_name': 'return shipping company',
                'verbose_name_plural': 'return shipping companies',
                'ordering': ['position', 'pk'],
            },
        ),
        migrations.AddField(
            model_name='cancellationreason',
            name='shops_fault',
            field=models.BooleanField(default=False, help_text='Such as damaged or wrong goods: no fee for sending back.', verbose_name="the shop's fault"),
        ),
        migrations.AddField(
            model_name='cancellationrequest',
            name='event',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='orders.shippingevent'),
        ),
        migrations.AddField(
            model_name='cancellationrequest',
            name='as_points',
            field=models.BooleanField(default=False, verbose_name='refund as points'),
        ),
        migrations.AddField(
            model_name='orderline',
            name='delivered_at',
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='delivered'),
        ),
        migrations.AddField(
            model_name='orderline',
            name='return_exemption',
            field=models.CharField(blank=True, choices=[('made_to_order', "made to the customer's order"), ('perishable', 'perishes quickly'), ('hygiene', 'sealed for hygiene'), ('mixed', 'cannot be separated once delivered'), ('sealed_media', 'sealed recordings or software'), ('periodical', 'newspaper or magazine'), ('dated_service', 'for a fixed date'), ('digital', 'digital content')], editable=False, max_length=20, verbose_name='cannot be sent back'),
        ),
        migrations.CreateModel(
            name='RequestPicture',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('content', models.BinaryField()),
                ('width', models.PositiveIntegerField()),
                ('height', models.PositiveIntegerField()),
                ('created_at', models.DateTimeField(verbose_name='sent')),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='pictures', to='orders.cancellationrequest')),
            ],
            options={
                'verbose_name': 'picture of a request',
                'verbose_name_plural': 'pictures of requests',
                'ordering': ['pk'],
            },
        ),
        migrations.CreateModel(
            name='Return',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('code', models.CharField(default=orders.models.returns.new_return_code, max_length=12, unique=True, verbose_name='return code')),
                ('pickup_date', models.DateField(blank=True, null=True, verbose_name='to be fetched on')),
                ('pickup_from', models.CharField(blank=True, max_length=20, verbose_name='from')),
                ('pickup_until', models.CharField(blank=True, max_length=20, verbose_name='until')),
                ('is_withdrawal', models.BooleanField(default=False, verbose_name='withdrawal')),
                ('created_at', models.DateTimeField(verbose_name='asked')),
                ('received_at', models.DateTimeField(blank=True, null=True, verbose_name='arrived')),
                ('received_by', models.CharField(blank=True, max_length=200, verbose_name='received by')),
                ('closed_at', models.DateTimeField(blank=True, help_text='all units are accounted for', null=True, verbose_name='closed')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='returns', to='orders.order', verbose_name='order')),
                ('pickup_address', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.orderaddress', verbose_name='to be fetched at')),
                ('carrier', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.returncarrier', verbose_name='shipping company')),
            ],
            options={
                'verbose_name': 'return',
                'verbose_name_plural': 'returns',
                'ordering': ['-pk'],
                'indexes': [models.Index(condition=models.Q(('closed_at', None)), fields=['created_at'], name='return_awaited')],
            },
        ),
        migrations.AddField(
            model_name='cancellationrequest',
            name='goods_return',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='orders.return', verbose_name='return'),
        ),
        migrations.CreateModel(
            name='ReturnPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_from', models.DateTimeField(default=django.utils.timezone.now, help_text='Earlier orders keep the policy that they were placed under.', verbose_name='for orders placed from')),
                ('return_days', models.PositiveIntegerField(blank=True, default=30, help_text='After delivery. Empty: no limit. 0: nothing but what the law asks for.', null=True, validators=[django.core.validators.MaxValueValidator(3650)], verbose_name='days to send back')),
                ('withdrawal_days', models.PositiveIntegerField(default=14, help_text='From the contract, without a reason. In the EU at least 14 after the last delivery.', validators=[django.core.validators.MinValueValidator(14), django.core.validators.MaxValueValidator(3650)], verbose_name='days to withdraw')),
                ('fee', models.DecimalField(decimal_places=3, default=0, help_text="Kept of the refund of each return, unless the reason is the shop's fault or it is a withdrawal.", max_digits=15, verbose_name='fee')),
                ('currency', models.CharField(default='EUR', help_text='Orders in other currencies pay no fee.', max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency of the fee')),
                ('approves_at_once', models.BooleanField(default=False, help_text="On: what is in time needs nobody's answer.", verbose_name='approved at once')),
                ('needs_pickup', models.BooleanField(default=False, help_text='On: customers have to choose a shipping company and a time for it to be fetched.', verbose_name='must be fetched')),
                ('store', models.ForeignKey(blank=True, help_text='Empty: all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop.store', verbose_name='store')),
            ],
            options={
                'verbose_name': 'return policy',
                'verbose_name_plural': 'return policies',
                'ordering': ['store', '-valid_from'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('store__isnull', False)), fields=('store', 'valid_from'), name='return_policy_once'),
                    models.UniqueConstraint(condition=models.Q(('store__isnull', True)), fields=('valid_from',), name='return_policy_everywhere_once'),
                    models.CheckConstraint(condition=models.Q(('fee__gte', 0)), name='return_policy_fee'),
                    models.CheckConstraint(condition=models.Q(('withdrawal_days__gte', 14)), name='return_policy_withdrawal'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Inspection',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(db_index=True, verbose_name='at')),
                ('actor_kind', models.CharField(max_length=10)),
                ('actor_name', models.CharField(max_length=200, verbose_name='by')),
                ('condition', models.CharField(choices=[('sellable', 'Sellable'), ('quarantine', 'To be inspected'), ('damaged', 'Damaged'), ('missing', 'Not in the parcel')], max_length=20, verbose_name='condition')),
                ('quantity', models.PositiveIntegerField(verbose_name='quantity')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='inspections', to='orders.shippingevent', verbose_name='event')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='inspections', to='orders.order', verbose_name='order')),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='inspections', to='orders.cancellationrequest', verbose_name='request')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'inspection',
                'verbose_name_plural': 'inspections',
                'ordering': ['pk'],
                'abstract': False,
                'constraints': [models.CheckConstraint(condition=models.Q(('quantity__gt', 0)), name='inspection_of_something'), models.CheckConstraint(condition=models.Q(models.Q(('condition', 'missing'), ('event', None)), models.Q(models.Q(('condition', 'missing'), _negated=True), ('event__isnull', False)), _connector='OR'), name='inspection_missing_is_no_event')],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
