// The order page: cancel as planned, ask for a return, change the address. What is possible and what follows says the API.
import {chosen} from './addresses.js';
import {Refusal, send} from './api.js';
import {clear, logIn, show} from './forms.js';
import {act, text} from './page.js';
import {money} from './texts.js';

const refuse = (field, words) => { throw new Refusal(400, {[field]: [words]}); };

// ---------------------------------------------------------------------------------------------------- Cancelling
const planned = new WeakMap();

function units(form) {
    return [...form.querySelectorAll('[name="line"]:checked')].map(box => (
        {line: Number(box.value), quantity: Number(form.elements[`units-${box.value}`].value)}
    ));
}

/** What a plan does, in sentences. */
function sentences(plan, payment) {
    const amount = value => money(value, plan.currency);
    const told = plan.refunds.map(part => text('refund', {amount: amount(part.amount), destination: part.destination || payment}));
    if (Number(plan.void)) told.push(text('void', {amount: amount(plan.void)}));
    if (Number(plan.deduction)) told.push(text('kept', {amount: amount(plan.deduction)}));
    if (!told.length) told.push(text('no_money'));
    if (plan.ends_order) told.push(text('ends_order'));
    return [...told, ...plan.messages.map(letter => text('letter', letter))];
}

function tell(form, words) {
    const part = form.querySelector('.plan');
    part.querySelector('ul').replaceChildren(...words.map(one => Object.assign(document.createElement('li'), {textContent: one})));
    part.hidden = !words.length;
}

/** Ask for the plan of what is chosen; the button says whether it happens or is asked for. */
async function plan(form) {
    const lines = units(form);
    const button = form.querySelector('[type="submit"]');
    const turn = Symbol('turn');
    planned.set(form, {turn});
    clear(form);
    if (!lines.length) return tell(form, []);
    let found = {turn};
    try {
        const {data} = await send('POST', form.dataset.planUrl, {lines});
        if (planned.get(form)?.turn !== turn) return;
        found = {turn, token: data.token};
        tell(form, sentences(data.plan, form.dataset.payment));
    } catch (no) {
        if (!(no instanceof Refusal)) throw no;
        if (planned.get(form)?.turn !== turn) return;
        if (no.status === 401) return logIn();
        const mayAsk = no.is('order_status_forbids') && no.errors.remedy;
        tell(form, mayAsk ? [text('person_decides')] : []);
        if (!mayAsk) show(form, no.errors);
    }
    planned.set(form, found);
    button.textContent = found.token ? button.dataset.now : button.dataset.ask;
}

// All lines by one box.
document.addEventListener('change', ({target}) => {
    const form = target.closest('form[data-do="cancel"]');
    if (!form) return;
    const boxes = [...form.querySelectorAll('[name="line"]')];
    const all = form.querySelector('[data-all]');
    if (target === all) for (const box of boxes) box.checked = all.checked;
    if (!all) return;
    all.checked = boxes.every(box => box.checked);
    all.indeterminate = !all.checked && boxes.some(box => box.checked);
});

// A line whose units are typed is meant: at once, or leaving the field to tick its box would take the tick away.
document.addEventListener('input', ({target}) => {
    const form = target.closest('form[data-do="cancel"]');
    const box = target.name?.startsWith('units-') && form?.querySelector(`[name="line"][value="${target.name.slice(6)}"]`);
    if (!box || box.checked) return;
    box.checked = true;
    box.dispatchEvent(new Event('change', {bubbles: true}));
});

for (const kind of ['opened', 'change']) {
    document.addEventListener(kind, event => {
        const form = event.target.closest('form') ?? event.target.querySelector('form');
        if (form?.dataset.do === 'cancel' && (kind === 'opened' || /^(lines?$|units-)/.test(event.target.name))) plan(form);
    });
}

act('cancel', async form => {
    const lines = units(form);
    if (!lines.length) refuse('cancel_order_items', text('choose_item'));
    const {reason, description} = Object.fromEntries(new FormData(form));
    if (!reason) refuse('reason', text('choose_reason'));
    const {token} = planned.get(form) ?? {};
    const items = lines.map(({line, quantity}) => ({order_item: line, cancellation_type: 'cancel', reason: Number(reason), quantity, description}));
    try {
        const {status} = await send('POST', form.dataset.url, {cancel_order_items: items, ...token && {plan: token}});
        return text(status === 204 ? 'cancelled' : 'cancel_asked');
    } catch (no) {
        // The order is another by now: what would happen is shown anew, beside what was refused.
        if (no.status === 409) await plan(form);
        throw no;
    }
}, {fieldOf: key => key.replace(/^cancel_order_items\.\d+\./, '').replace(/^order_item$|^quantity$/, 'cancel_order_items')});

// ---------------------------------------------------------------------------------------------------- Sending back
const read = file => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
});

const wanted = form => [...form.querySelectorAll('.return-line')].filter(part => part.querySelector('[name="line"]').checked);

function arrange(form) {
    for (const part of form.querySelectorAll('.return-line')) {
        part.querySelector('[data-details]').hidden = !part.querySelector('[name="line"]').checked;
    }
    const company = form.elements.shipping_company;
    if (!company) return;
    form.querySelector('[data-pickup]').hidden = !company.value;
    form.querySelector('[data-fetch]').hidden = !form.elements.fetch.checked;
}

document.addEventListener('change', async event => {
    const form = event.target.closest('form[data-do="return"]');
    if (!form) return;
    arrange(form);
    if (event.target.type !== 'file') return;
    const pictures = await Promise.all([...event.target.files].map(async file => {
        const image = Object.assign(document.createElement('img'), {src: await read(file), alt: file.name});
        const item = document.createElement('li');
        item.append(image);
        return item;
    }));
    event.target.parentElement.querySelector('.previews').replaceChildren(...pictures);
});

async function itemOf(form, part) {
    const field = name => part.querySelector(`[name="${name}"]`);
    const pictures = await Promise.all([...field('cancellation_request_image_set').files].map(read));
    const item = {
        order_item: Number(part.dataset.line),
        cancellation_type: 'refund',
        reason: Number(field('reason').value),
        quantity: Number(field('quantity').value),
        description: field('description').value,
    };
    // What stands before the comma only says that base64 follows.
    if (pictures.length) item.cancellation_request_image_set = pictures.map(url => ({image: url.slice(url.indexOf(',') + 1)}));
    const company = form.elements.shipping_company?.value;
    if (company && part.dataset.companies.split(' ').includes(company)) {
        item.shipping_company = Number(company);
        const {pickup_date: date, start, end} = form.elements;
        if (form.elements.fetch.checked) item.pickup_date = {date: date.value, hour_range: {start: start.value, end: end.value}};
    }
    return item;
}

/** Errors of an item are told at that item's field, those of its fetching at the one place where that is asked. */
function placed(form, parts, errors) {
    const ids = ['quantity', 'reason', 'description', 'cancellation_request_image_set'];
    return Object.fromEntries(Object.entries(errors).map(([key, told]) => {
        const [, at, name] = /^cancel_order_items\.(\d+)\.(\w+)/.exec(key) ?? [];
        const field = ids.includes(name) ? parts[at]?.querySelector(`[name="${name}"]`) : null;
        if (field) field.dataset.group = key;
        return [field ? key : name === 'pickup_date' && /start|end/.test(key) ? key.split('.').pop() : name ?? key, told];
    }));
}

act('return', async form => {
    const parts = wanted(form);
    if (!parts.length) refuse('non_field_errors', text('choose_item'));
    for (const part of parts) {
        const reason = part.querySelector('[name="reason"]');
        if (!reason.value) {
            throw new Refusal(400, placed(form, parts, {[`cancel_order_items.${parts.indexOf(part)}.reason`]: [text('choose_reason')]}));
        }
    }
    const body = {cancel_order_items: await Promise.all(parts.map(part => itemOf(form, part)))};
    if (form.elements.fetch?.checked && form.elements.shipping_company.value) body.pickup_address = Number(form.elements.pickup_address?.value) || null;
    if (form.elements.fully_refund_as_loyalty_money?.checked) body.fully_refund_as_loyalty_money = true;
    try {
        const {status} = await send('POST', form.dataset.url, body);
        return text(status === 204 ? 'cancelled' : 'return_asked');
    } catch (no) {
        throw no instanceof Refusal ? new Refusal(no.status, placed(form, parts, no.errors)) : no;
    }
});

// ---------------------------------------------------------------------------------------------------- Address
act('readdress', async form => {
    const types = [...form.querySelectorAll('[name="order_address_types"]:checked')].map(box => box.value);
    if (!types.length) refuse('order_address_types', text('choose_address_type'));
    const address = await chosen(form.querySelector('.address-choice'), form.dataset.bookUrl);
    const {data} = await send('POST', form.dataset.url, {order: Number(form.dataset.order), address, order_address_types: types});
    return text(data.status === 202 ? 'address_waiting' : 'address_changed');
});
