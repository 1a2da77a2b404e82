// What is done on more than one page: the cart, ordering again, the address book.
import {inStore, newKey, send, store} from './api.js';
import {attempt} from './forms.js';
import {act, on, refresh, say, sayThere, text} from './page.js';

export const values = form => Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === 'string'));

on('add-to-cart', form => attempt(form, async () => {
    const {product, quantity = 1} = values(form);
    await send('POST', form.dataset.url, {product: Number(product), quantity: Number(quantity), store: store()});
    await refresh();
    say(text('added', {name: form.dataset.name}), {href: document.querySelector('.cart-link').href, words: text('to_cart')});
}));

act('change-units', async form => {
    await send('PATCH', inStore(form.dataset.url), {quantity: Number(values(form).quantity)});
});

act('take-out', async button => {
    await send('DELETE', inStore(button.dataset.url));
});

act('change-cart', async form => {
    await send('PATCH', inStore(form.dataset.url), values(form));
});

on('reorder', button => attempt(button, async () => {
    const {data} = await send('POST', button.dataset.url, {});
    if (data.not_added.length) sessionStorage.setItem('not_added', JSON.stringify(data.not_added.map(one => one.message)));
    location.assign(button.dataset.then);
}));

on('pay', form => attempt(form, async () => {
    const {data} = await send('POST', form.dataset.url, values(form), {key: newKey()});
    if (data.payment === 'declined') sayThere(text('payment_declined'));
    location.reload();
}));

act('save-address', async form => {
    await send(form.dataset.method, form.dataset.url, values(form));
    return text('saved');
});

act('default-address', async button => {
    await send('PATCH', button.dataset.url, {is_default_shipping: true, is_default_billing: true});
    return text('saved');
});

act('delete-address', async button => {
    await send('DELETE', button.dataset.url);
    return text('deleted');
});

// What could not be ordered again is told in the cart.
const place = document.getElementById('not-added');
const missing = JSON.parse(sessionStorage.getItem('not_added') ?? 'null');
if (place && missing) {
    sessionStorage.removeItem('not_added');
    const told = document.createElement('div');
    told.className = 'notice';
    const words = document.createElement('p');
    words.textContent = text('not_all');
    const list = document.createElement('ul');
    for (const message of missing) list.append(Object.assign(document.createElement('li'), {textContent: message}));
    told.append(words, list);
    place.append(told);
}
