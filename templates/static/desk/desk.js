// Keyboard shortcuts, menus that close, and forms that are sent once. The desk works without any of it.
'use strict';
{
    const help = document.getElementById('desk-help');
    // How long after "g" a letter leads on: long enough for one finger, and for a busy machine.
    const CHORD_MS = 5000;
    let afterG = -CHORD_MS;

    function isTyping(target) {
        return target.isContentEditable || target.closest('input, textarea, select, dialog, .select2-container') !== null;
    }

    function focusSearch() {
        const search = document.getElementById('searchbar') || document.getElementById('desk-search');
        if (search) {
            search.focus();
            search.select();
        }
        return Boolean(search);
    }

    function goTo(key) {
        const address = {o: help?.dataset.orders, i: help?.dataset.inbox, d: help?.dataset.index}[key];
        if (address) {
            window.location.assign(address);
        }
        return Boolean(address);
    }

    document.addEventListener('keydown', event => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) {
            return;
        }
        let done = false;
        if (event.timeStamp - afterG < CHORD_MS) {
            done = goTo(event.key);
            afterG = -CHORD_MS;
        } else if (event.key === 'g') {
            afterG = event.timeStamp;
        } else if (event.key === '/') {
            done = focusSearch();
        } else if (event.key === '?' && help) {
            help.showModal();
            done = true;
        } else if (event.key === 'Escape') {
            closeMenus(null);
        }
        if (done) {
            event.preventDefault();
        }
    });

    // A filter's menu closes when something else is clicked.
    function closeMenus(except) {
        document.querySelectorAll('details.desk-filter[open]').forEach(menu => {
            if (menu !== except) {
                menu.open = false;
            }
        });
    }
    document.addEventListener('click', event => closeMenus(event.target.closest('details.desk-filter')));

    // The navigation shows where one is, also where its list is longer than the window, or wider than the phone.
    const nav = document.querySelector('.desk-nav'), here = nav?.querySelector('[aria-current]');
    if (here) {
        const own = here.getBoundingClientRect(), box = nav.getBoundingClientRect();
        nav.scrollTop += Math.max(0, own.bottom - Math.min(box.bottom, window.innerHeight) + 12);
        nav.scrollLeft += Math.max(0, own.right - box.right + 12);
    }

    // A second click on the same button sends nothing. (The server knows the double submit as well.)
    document.querySelectorAll('form[data-once]').forEach(form => {
        form.addEventListener('submit', () => {
            window.setTimeout(() => form.querySelectorAll('button[type=submit]').forEach(button => { button.disabled = true; }));
        });
    });
    window.addEventListener('pageshow', event => {
        if (event.persisted) {
            document.querySelectorAll('form[data-once] button[disabled]').forEach(button => { button.disabled = false; });
        }
    });

    // The time that is left, beside words that say until when: for the eye only, it would tire the ear.
    document.querySelectorAll('[data-countdown]').forEach(place => {
        const until = Date.parse(place.dataset.countdown);
        function tell() {
            const left = Math.ceil((until - Date.now()) / 1000);
            place.textContent = left > 0 ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}` : place.dataset.over;
            if (left > 0) {
                window.setTimeout(tell, 1000);
            }
        }
        tell();
    });
}
