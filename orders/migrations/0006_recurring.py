# Recurring orders: what comes again and again, and the orders that are part of it.

import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0001_initial'),
        ('orders', '0005_approval_levels'),
        ('shop', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='order',
            name='occurrence',
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name='number in the series'),
        ),
        migrations.CreateModel(
            name='RecurringOrder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('customer_name', models.CharField(blank=True, max_length=200, verbose_name='customer')),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='e-mail')),
                ('phone', models.CharField(blank=True, max_length=32, verbose_name='phone')),
                ('language', models.CharField(max_length=10, verbose_name='language')),
                ('channel', models.CharField(max_length=30, verbose_name='channel')),
                ('shipping_method', models.CharField(blank=True, max_length=50, verbose_name='shipping method')),
                ('shipping_method_name', models.CharField(blank=True, max_length=200, verbose_name='shipping method')),
                ('shipping_price', models.DecimalField(decimal_places=3, default=0, max_digits=15, verbose_name='shipping')),
                ('is_pickup', models.BooleanField(default=False, verbose_name='collected at the store')),
                ('payment_method', models.CharField(blank=True, max_length=50, verbose_name='payment method')),
                ('payment_method_name', models.CharField(blank=True, max_length=200, verbose_name='payment method')),
                ('pays_on_delivery', models.BooleanField(default=False, verbose_name='paid on delivery')),
                ('capture_mode', models.CharField(choices=[('at_placement', 'As soon as it is authorized'), ('by_staff', 'When staff take payment')], default='by_staff', max_length=20)),
                ('gateway', models.CharField(max_length=50, verbose_name='gateway')),
                ('payment_details', models.JSONField(blank=True, default=dict)),
                ('extra', models.JSONField(blank=True, default=dict)),
                ('unit', models.CharField(choices=[('day', 'Days'), ('week', 'Weeks'), ('month', 'Months')], max_length=10, verbose_name='unit')),
                ('every', models.PositiveSmallIntegerField(validators=[django.core.validators.MinValueValidator(1)], verbose_name='every')),
                ('starts_at', models.DateTimeField(verbose_name='first order')),
                ('next_occurrence', models.PositiveIntegerField(default=2)),
                ('next_at', models.DateTimeField(verbose_name='next order')),
                ('status', models.CharField(choices=[('active', 'Active'), ('paused', 'Paused'), ('ended', 'Ended')], default='active', max_length=10, verbose_name='status')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('ended_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('ended_by', models.CharField(blank=True, max_length=200, verbose_name='ended by')),
                ('billing_address', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.orderaddress', verbose_name='billing address')),
                ('customer', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='recurring_orders', to=settings.AUTH_USER_MODEL, verbose_name='customer')),
                ('ended_reason', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.cancellationreason', verbose_name='reason')),
                ('shipping_address', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.orderaddress', verbose_name='shipping address')),
                ('store', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='shop.store', verbose_name='store')),
            ],
            options={
                'verbose_name': 'recurring order',
                'verbose_name_plural': 'recurring orders',
                'ordering': ['-pk'],
                'permissions': [('manage_recurring', 'Can start, pause and end recurring orders')],
                'indexes': [models.Index(models.F('next_at'), condition=models.Q(('status', 'active')), name='recurring_due')],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('every__gte', 1)), name='recurring_every_positive'),
                    models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', False), ('status', 'ended')), models.Q(models.Q(('status', 'ended'), _negated=True), ('ended_at', None)), _connector='OR'), name='recurring_ended_at'),
                ],
            },
        ),
        migrations.CreateModel(
            name='RecurringItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(verbose_name='position')),
                ('name', models.CharField(max_length=255, verbose_name='name')),
                ('quantity', models.PositiveIntegerField(verbose_name='quantity')),
                ('product', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='inventory.product', verbose_name='product')),
                ('recurring', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='items', to='orders.recurringorder', verbose_name='series')),
            ],
            options={
                'verbose_name': 'item of a recurring order',
                'verbose_name_plural': 'items of recurring orders',
                'ordering': ['recurring', 'position'],
                'constraints': [
                    models.UniqueConstraint(fields=('recurring', 'position'), name='recurring_item_position_once'),
                    models.CheckConstraint(condition=models.Q(('quantity__gte', 1)), name='recurring_item_quantity'),
                ],
            },
        ),
        migrations.CreateModel(
            name='RecurringChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('started', 'Started'), ('placed', 'Order placed'), ('skipped', 'Order left out'), ('paused', 'Paused'), ('resumed', 'Resumed'), ('ended', 'Ended')], max_length=10, verbose_name='what')),
                ('occurrence', models.PositiveIntegerField(blank=True, null=True, verbose_name='number in the series')),
                ('created_at', models.DateTimeField(verbose_name='at')),
                ('actor_kind', models.CharField(max_length=10)),
                ('actor_name', models.CharField(max_length=200, verbose_name='by')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('reason', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='orders.cancellationreason', verbose_name='reason')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='by')),
                ('recurring', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='orders.recurringorder', verbose_name='series')),
            ],
            options={
                'verbose_name': 'change of a recurring order',
                'verbose_name_plural': 'changes of recurring orders',
                'ordering': ['pk'],
            },
        ),
        migrations.AddField(
            model_name='order',
            name='recurring',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='orders.recurringorder', verbose_name='recurring order'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(fields=('recurring', 'occurrence'), name='order_occurrence_once'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('occurrence', None), ('recurring', None)), models.Q(('occurrence__isnull', False), ('recurring__isnull', False)), _connector='OR'), name='order_occurrence_of_series'),
        ),
    ]
