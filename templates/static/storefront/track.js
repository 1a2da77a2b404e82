// A guest's order, as the API tells it to whoever knows its number and e-mail.
import {send} from './api.js';
import {attempt} from './forms.js';
import {on, text} from './page.js';
import {money} from './texts.js';

const made = id => document.getElementById(id).content.firstElementChild.cloneNode(true);

function fill(node, words) {
    for (const [slot, said] of Object.entries(words)) node.querySelector(`[data-slot="${slot}"]`).textContent = said;
    return node;
}

function lineOf(item, order) {
    const currency = order.currency.value;
    const status = item.status.value === order.status.value ? '' : item.status.label;
    const line = fill(made('found-line'), {
        units: text('units', {count: item.quantity}), name: item.product.name, status,
        sum: money(item.quantity * Number(item.price), currency),
    });
    const link = line.querySelector('a');
    if (item.tracking_number) {
        link.textContent = text('tracking', {number: item.tracking_number});
        link.hidden = false;
        if (/^https?:/.test(item.tracking_url ?? '')) link.href = item.tracking_url;
    }
    return line;
}

function orderOf(order) {
    const currency = order.currency.value;
    const {first_name: first, last_name: last, line, postcode, city, country} = order.shipping_address;
    const address = [`${first} ${last}`, line, `${postcode} ${city.name}`, country.name].filter(one => one.trim()).join('\n');
    const shown = fill(made('found-order'), {
        number: order.number, status: order.status.label, total: money(order.amount, currency), address,
    });
    shown.querySelector('[data-slot="status"]').dataset.status = order.status.value;
    const withdraw = shown.querySelector('[data-slot="withdraw"]');
    withdraw.setAttribute('href', `${withdraw.getAttribute('href')}?${new URLSearchParams({order: order.number})}`);
    shown.querySelector('[data-slot="lines"]').append(...order.orderitem_set.map(item => lineOf(item, order)));
    return shown;
}

on('track', form => attempt(form, async () => {
    const place = document.getElementById('found');
    place.replaceChildren();
    const {data} = await send('POST', form.dataset.url, Object.fromEntries(new FormData(form)));
    place.replaceChildren(...data.map(orderOf));
    place.focus();
}));
