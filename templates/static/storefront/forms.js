// Forms that talk to the API: sent once at a time, and every message of a refusal stands beside its field or on top.
import {Refusal} from './api.js';
import {has, text} from './texts.js';

// For programs, not for people.
const SILENT = new Set(['error_code', 'max_quantity', 'deadline']);
// The API's names for fields that a form names otherwise.
const ALIASES = {phone: 'phone_number', company: 'company_name'};

/** Do something for a form or button, unless it is being done already; show what was refused. */
export async function attempt(form, work, {fieldOf = key => key} = {}) {
    if (form.getAttribute('aria-busy') === 'true') return;
    form.setAttribute('aria-busy', 'true');
    clear(form);
    try {
        await work();
    } catch (no) {
        if (!(no instanceof Refusal)) throw no;
        if (no.status === 401) logIn();
        else show(form, no.errors, fieldOf);
    } finally {
        form.removeAttribute('aria-busy');
    }
}

/** Nobody is logged in any more: log in, and come back here. */
export function logIn() {
    location.assign(`${document.body.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** What the pages have words of their own for is said in these: the API's are its contract's, in English. */
function inOurWords(errors) {
    const code = [errors.error_code].flat()[0];
    return 'non_field_errors' in errors && has(`refused-${code}`) ? {...errors, non_field_errors: [text(`refused-${code}`)]} : errors;
}

export function clear(form) {
    for (const said of form.querySelectorAll('.told')) said.remove();
    for (const field of form.querySelectorAll('[aria-invalid]')) {
        field.removeAttribute('aria-invalid');
        field.removeAttribute('aria-describedby');
    }
    if (!('elements' in form)) box().replaceChildren();
}

// What was wrong with a field is no longer said once it is another.
document.addEventListener('input', ({target}) => {
    if (!target.matches('[aria-invalid]')) return;
    document.getElementById(target.getAttribute('aria-describedby'))?.remove();
    target.removeAttribute('aria-invalid');
    target.removeAttribute('aria-describedby');
});

/** Errors are {field: [messages]}. The first field at fault is focused, or the messages on top. */
export function show(form, errors, fieldOf = key => key) {
    const rest = [];
    let first = null;
    for (const [key, messages] of Object.entries(inOurWords(errors))) {
        if (SILENT.has(key)) continue;
        const field = find(form, fieldOf(key));
        if (!field) {
            rest.push(...[messages].flat());
            continue;
        }
        beside(field, [messages].flat());
        first ??= field;
    }
    const top = rest.length ? onTop(form, rest) : null;
    (top ?? first)?.focus();
    (top ?? first)?.scrollIntoView({block: 'center', behavior: 'instant'});
}

/** The field of a name that can be seen; a group of choices is found by its fieldset. */
function find(form, name) {
    if (!('elements' in form)) return null;
    const parts = name.split('.');
    const last = parts.pop();
    const names = [name, [...parts, ALIASES[last] ?? last].join('.')];
    for (const one of names) {
        const group = form.querySelector(`[data-group="${CSS.escape(one)}"]`);
        const input = (group?.matches('fieldset') ? group.querySelector('input') : group) ?? form.querySelector(`[name="${CSS.escape(one)}"]`);
        if (input?.checkVisibility()) return input;
    }
    return null;
}

let made = 0;

function beside(field, messages) {
    const told = document.createElement('p');
    told.className = 'error told';
    told.id = `told-${made += 1}`;
    told.textContent = messages.join(' ');
    field.setAttribute('aria-invalid', 'true');
    field.setAttribute('aria-describedby', told.id);
    (field.closest('fieldset.choices, .field, .choice, label') ?? field).append(told);
}

function onTop(form, messages) {
    const told = document.createElement('div');
    told.className = 'notice bad told';
    told.tabIndex = -1;
    told.setAttribute('role', 'alert');
    for (const message of new Set(messages)) {
        const line = document.createElement('p');
        line.textContent = message;
        told.append(line);
    }
    const place = 'elements' in form ? form.querySelector('.problems-place') : box();
    if (place) place.append(told);
    else if (form.querySelector(':scope > h2')) form.querySelector(':scope > h2').after(told);
    else form.prepend(told);
    return told;
}

/** Where the refusal of a lone button is told: on top of the page. */
function box() {
    let found = document.getElementById('refused');
    if (!found) {
        found = document.createElement('div');
        found.id = 'refused';
        document.getElementById('content').prepend(found);
    }
    return found;
}
