// The choice between an entry of the address book and a new address; a new one is kept in the book first.
import {Refusal, send} from './api.js';

document.addEventListener('change', event => {
    const choice = event.target.closest('.address-choice');
    if (choice && event.target.matches('.field > select') && event.target.querySelector('option[value="new"]')) {
        choice.querySelector('.new-address').hidden = event.target.value !== 'new';
    }
});

const list = choice => choice.querySelector(':scope > .field > select');

/** The fields of a new address, without their prefix. */
export function typed(choice) {
    const fields = [...choice.querySelectorAll('.new-address [name]')].map(field => [field.name.split('.').pop(), field.value.trim()]);
    return Object.fromEntries(fields);
}

/** The id of the chosen entry; a new address is added to the book first, and is chosen from then on. */
export async function chosen(choice, bookAddress, prefix = '') {
    const select = list(choice);
    if (select && select.value !== 'new') return Number(select.value);
    try {
        const {data} = await send('POST', bookAddress, typed(choice));
        if (select) {
            select.prepend(new Option([data.line, data.postcode, data.city.name].join(', '), data.pk, true, true));
            choice.querySelector('.new-address').hidden = true;
        }
        return data.pk;
    } catch (no) {
        if (!(no instanceof Refusal) || !prefix) throw no;
        const named = Object.entries(no.errors).map(([key, told]) => [key === 'error_code' ? key : `${prefix}${key}`, told]);
        throw new Refusal(no.status, Object.fromEntries(named));
    }
}
