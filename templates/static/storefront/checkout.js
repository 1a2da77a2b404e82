// The checkout: methods are written into the cart as they are chosen, the rest when it is ordered.
import {inStore, newKey, send, store} from './api.js';
import {chosen, typed} from './addresses.js';
import {attempt, clear, logIn, show} from './forms.js';
import {on, refresh, text} from './page.js';

const form = document.getElementById('checkout');
const {cart, cartUrl, purchaseUrl, bookUrl, orderUrl, userUrl} = form.dataset;
const isCustomer = 'customer' in form.dataset;
const choiceOf = kind => form.querySelector(`[data-choice="${kind}"]`);
const picked = name => form.querySelector(`[name="${name}"]:checked`);
const isPickup = () => 'pickup' in (picked('shipping_method')?.dataset ?? {});

function arrange() {
    document.getElementById('delivery').hidden = isPickup();
    document.getElementById('billing').hidden = !form.elements.other_billing.checked;
}

/** Write one choice into the cart, so that the sums are those that will be paid: one after the other, none is lost. */
let written = Promise.resolve();
function write(name) {
    written = written.then(async () => {
        await send('PATCH', inStore(cartUrl), {[name]: picked(name)?.value ?? null});
        await refresh('#summary');
    }).catch(no => {
        // While it is being ordered, that tells what is wrong.
        if (form.getAttribute('aria-busy') !== 'true') show(form, no.errors ?? {non_field_errors: [text('failed')]});
    });
    return written;
}

form.addEventListener('change', event => {
    arrange();
    if (['shipping_method', 'payment_method'].includes(event.target.name)) {
        clear(form);
        write(event.target.name);
    }
});

for (const name of ['shipping_method', 'payment_method']) {
    const first = form.querySelector(`[name="${name}"]`);
    if (first && !picked(name)) first.checked = true;
}
arrange();
write('shipping_method');

/** The key of what is being ordered: the same for every repetition of it, another for anything else. */
function keyOf(body) {
    const kept = JSON.parse(sessionStorage.getItem('purchase') ?? '{}');
    if (kept.body === body) return kept.key;
    const key = newKey();
    sessionStorage.setItem('purchase', JSON.stringify({body, key}));
    return key;
}

/** An address as the cart takes it: an entry of the book, an address of its own, or null. */
async function addressOf(kind, isWanted) {
    if (!isWanted) return null;
    return isCustomer ? chosen(choiceOf(kind), bookUrl, `${kind}_address.`) : typed(choiceOf(kind));
}

/** All that was typed, into the cart. What is wrong with it is told at once, a missing e-mail as well. */
async function writeAll() {
    const changes = {email: form.elements.email.value.trim()};
    for (const name of ['shipping_method', 'payment_method']) changes[name] = picked(name)?.value ?? null;
    try {
        changes.shipping_address = await addressOf('shipping', !isPickup());
        changes.billing_address = await addressOf('billing', form.elements.other_billing.checked);
        await send('PATCH', inStore(cartUrl), changes);
    } catch (no) {
        if (no.status === 400 && !changes.email) no.errors = {email: [text('email_needed')], ...no.errors};
        throw no;
    }
}

/** Without its session a customer's page is a guest's, who has neither this cart nor this address book. */
const isLoggedOut = async () => isCustomer && await send('GET', userUrl).then(() => false, no => no.status === 401);

async function order() {
    // What was seen when the button was pressed: sums that change meanwhile are shown, and asked for again.
    const seen = document.getElementById('summary').dataset.total;
    await written;
    await writeAll();
    const body = {cart, store: store(), total: seen};
    for (const name of ['use_loyalty', 'use_store_credit']) if (form.elements[name]?.checked) body[name] = true;
    if (form.elements.annotation.value.trim()) body.annotation = form.elements.annotation.value.trim();
    const {data} = await send('POST', purchaseUrl, body, {key: keyOf(JSON.stringify(body))});
    sessionStorage.removeItem('purchase');
    location.assign(`${orderUrl.replace('/0/', `/${data.number}/`)}?placed`);
    await new Promise(() => {}); // the form stays busy until the page is left
}

on('order', () => attempt(form, async () => {
    try {
        await order();
    } catch (no) {
        if (await isLoggedOut()) return logIn();
        // What is in the cart may be another now: the sums are shown as they are, and asked for again.
        if (no.status === 409) await refresh('#summary');
        throw no;
    }
}));
