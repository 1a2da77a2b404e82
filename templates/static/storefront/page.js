// What every page does: actions by name, dialogs, words said in passing, and parts that are read anew from the server.
import {cookie} from './api.js';
import {attempt} from './forms.js';
import {text} from './texts.js';

const actions = {};

/** Name what a form with data-do="name" does when it is sent, or a button when it is pressed. */
export function on(name, work) {
    actions[name] = work;
}

document.addEventListener('submit', event => {
    // Forms without it go to the server as forms do: the search, the log-in, the withdrawal. Where somebody has logged
    // in or out in another tab meanwhile, this page's token is an old one; the cookie's counts.
    if (!('do' in event.target.dataset)) {
        const token = event.target.elements.csrfmiddlewaretoken;
        if (token && cookie('csrftoken')) token.value = cookie('csrftoken');
        return;
    }
    event.preventDefault();
    actions[event.target.dataset.do]?.(event.target);
});

document.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.dataset.opens) open(document.getElementById(button.dataset.opens));
    if ('closes' in button.dataset) button.closest('dialog').close();
    if (button.dataset.do) actions[button.dataset.do]?.(button);
});

document.addEventListener('change', event => {
    if ('submits' in event.target.dataset) event.target.form.requestSubmit();
});

function open(dialog) {
    dialog.showModal();
    dialog.dispatchEvent(new CustomEvent('opened', {bubbles: true}));
}

/** Say something in passing, with a link if there is one: {href, words}. */
export function say(words, link = null) {
    const told = document.createElement('p');
    told.textContent = words;
    if (link) {
        const way = document.createElement('a');
        way.href = link.href;
        way.textContent = link.words;
        told.append(' ', way);
    }
    const place = document.getElementById('said');
    place.replaceChildren(told);
    clearTimeout(say.timer);
    // Not while somebody is reading it, or is about to follow its link.
    const fade = () => { if (place.querySelector(':hover, :focus')) say.timer = setTimeout(fade, 2000); else place.replaceChildren(); };
    say.timer = setTimeout(fade, 8000);
}

/** Say something on the next page. */
export function sayThere(words) {
    sessionStorage.setItem('say', words);
}

/** Read parts of the page anew: the server has one way to draw them, and so has the page. */
export async function refresh(...selectors) {
    let there;
    try {
        const answer = await fetch(location.href, {headers: {Accept: 'text/html'}, credentials: 'same-origin'});
        if (!answer.ok) return;
        there = new DOMParser().parseFromString(await answer.text(), 'text/html');
    } catch {
        return; // what was done is done, and is said; the page shows it when it is next read
    }
    const focused = document.activeElement?.id;
    for (const selector of [...selectors, '#cart-units']) {
        const fresh = there.querySelector(selector);
        const here = document.querySelector(selector);
        if (!fresh || !here) continue;
        // The element itself stays: what is new in one with aria-live is read out.
        here.replaceChildren(...fresh.childNodes);
        for (const {name} of [...here.attributes]) if (!fresh.hasAttribute(name)) here.removeAttribute(name);
        for (const {name, value} of fresh.attributes) here.setAttribute(name, value);
    }
    if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
}

/** Do what a form or button wants, close its dialog, read its part anew, and say so. */
export function act(name, work, options = {}) {
    on(name, form => attempt(form, async () => {
        const words = await work(form);
        form.closest('dialog')?.close();
        await refresh(form.dataset.refresh);
        // What was pressed is gone with the old part.
        if (document.activeElement === document.body) document.getElementById('content').focus({preventScroll: true});
        if (words) say(words);
    }, options));
}

const kept = sessionStorage.getItem('say');
if (kept) {
    sessionStorage.removeItem('say');
    say(kept);
}

// A page that the browser kept shows the cart as it was.
addEventListener('pageshow', event => event.persisted && refresh());

// A picture that cannot be loaded leaves its tile.
document.addEventListener('error', event => event.target instanceof HTMLImageElement && event.target.remove(), true);
for (const image of document.querySelectorAll('.tile img')) if (image.complete && !image.naturalWidth) image.remove();

export {text};
