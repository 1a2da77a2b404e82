"""Documents of orders and their number series."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0007_recurring_roles'),
        ('shop', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='order',
            name='invoiced_at',
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='invoiced'),
        ),
        migrations.CreateModel(
            name='DocumentSeries',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('invoice', 'Invoice'), ('credit_note', 'Credit note'), ('restoration_note', 'Restoration note'), ('delivery_note', 'Delivery note')], max_length=20, verbose_name='kind')),
                ('prefix', models.CharField(blank=True, help_text='What stands before the number, such as “INV-”.', max_length=20, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9/_.-]*\\Z', 'Letters, digits and / _ . - only.')], verbose_name='prefix')),
                ('next_number', models.PositiveIntegerField(default=1, help_text='Can be chosen until the first document has been issued.', verbose_name='next number')),
                ('issue_when', models.CharField(choices=[('by_hand', 'By hand'), ('placed', 'When an order is placed'), ('shipped', 'When the first goods of an order are shipped')], default='by_hand', help_text='Of invoices. The other documents follow from what they document.', max_length=10, verbose_name='issued')),
                ('makes_pdf', models.BooleanField(default=False, help_text='By a worker, beside the page to print. Needs the extra “pdf” (WeasyPrint).', verbose_name='makes a PDF of each')),
                ('store', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='document_series', to='shop.store', verbose_name='store')),
            ],
            options={
                'verbose_name': 'document series',
                'verbose_name_plural': 'document series',
                'ordering': ['store', 'kind'],
                'constraints': [
                    models.UniqueConstraint(fields=('store', 'kind'), name='document_series_once'),
                    models.CheckConstraint(condition=models.Q(('next_number__gte', 1)), name='document_series_from_one'),
                    models.CheckConstraint(condition=models.Q(('kind', 'invoice'), ('issue_when', 'by_hand'), _connector='OR'), name='document_series_invoices_when'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Document',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('invoice', 'Invoice'), ('credit_note', 'Credit note'), ('restoration_note', 'Restoration note'), ('delivery_note', 'Delivery note')], max_length=20, verbose_name='kind')),
                ('sequence', models.PositiveIntegerField()),
                ('number', models.CharField(max_length=40, verbose_name='number')),
                ('issued_at', models.DateTimeField(verbose_name='issued')),
                ('issued_by', models.CharField(max_length=200, verbose_name='by')),
                ('language', models.CharField(max_length=10, verbose_name='language')),
                ('currency', models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'Enter a currency code of three capital letters, such as EUR.')], verbose_name='currency')),
                ('total', models.DecimalField(blank=True, decimal_places=3, help_text='none on a delivery note', max_digits=15, null=True, verbose_name='total')),
                ('content', models.JSONField()),
                ('cause', models.CharField(max_length=100, unique=True)),
                ('corrects', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='orders.document', verbose_name='corrects')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='documents', to='orders.order', verbose_name='order')),
                ('payment_event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='documents', to='orders.paymentevent')),
                ('shipping_event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='documents', to='orders.shippingevent')),
                ('series', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='documents', to='orders.documentseries', verbose_name='series')),
            ],
            options={
                'verbose_name': 'document',
                'verbose_name_plural': 'documents',
                'ordering': ['-pk'],
                'permissions': [('issue_document', 'Can issue invoices')],
                'indexes': [models.Index(fields=['number'], name='document_number')],
                'constraints': [
                    models.UniqueConstraint(fields=('series', 'sequence'), name='document_sequence_once'),
                    models.UniqueConstraint(fields=('series', 'number'), name='document_number_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='DocumentFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('content', models.BinaryField()),
                ('made_at', models.DateTimeField(verbose_name='made')),
                ('document', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='file', to='orders.document')),
            ],
            options={
                'verbose_name': 'PDF of a document',
                'verbose_name_plural': 'PDFs of documents',
            },
        ),
    ]
