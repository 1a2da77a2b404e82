// How the pages ask the API: JSON, the CSRF token of the cookie, and one kind of error for every refusal.
import {text} from './texts.js';

export function cookie(name) {
    const found = document.cookie.split('; ').find(one => one.startsWith(`${name}=`));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : '';
}

/** What the API said no to. `errors`: field → messages, as it sends them. Status 0: nobody answered. */
export class Refusal extends Error {
    constructor(status, errors) {
        super(Object.values(errors).flat().join(' '));
        this.status = status;
        this.errors = errors;
    }

    is(code) {
        return [this.errors.error_code].flat().includes(code);
    }
}

/** Send a request; returns {status, data}. Throws Refusal. */
export async function send(method, address, body, {key = ''} = {}) {
    const headers = {Accept: 'application/json', 'X-CSRFToken': cookie('csrftoken')};
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (key) headers['Idempotency-Key'] = key;
    let answer, said;
    try {
        answer = await fetch(address, {method, headers, body: JSON.stringify(body), credentials: 'same-origin'});
        said = await answer.text();
    } catch {
        throw new Refusal(0, {non_field_errors: [text('unreachable')]});
    }
    let data = null;
    try {
        data = said ? JSON.parse(said) : null;
    } catch { /* a page, not the API */ }
    if (answer.ok) return {status: answer.status, data};
    const told = data && typeof data === 'object' && !Array.isArray(data);
    throw new Refusal(answer.status, told ? data : {non_field_errors: [text('failed')]});
}

/** A new Idempotency-Key; browsers have randomUUID only where the address is safe. */
export function newKey() {
    return crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
}

/** The store that the page shows, as the API wants it named. */
export const store = () => document.body.dataset.store;

export const inStore = address => `${address}?store=${encodeURIComponent(store())}`;
