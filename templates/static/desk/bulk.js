// A bulk run's page: asks how far it is and shows that. When it ends or pauses, the page is loaded again for its buttons.
'use strict';
{
    const EVERY_MS = 2000, LATER_MS = 10000;
    const box = document.querySelector('[data-progress]');
    let told = -1;

    const set = (selector, words) => {
        const node = box.querySelector(selector);
        if (node && node.textContent !== words) {
            node.textContent = words;
        }
    };

    function show(now) {
        const bar = box.querySelector('[role=progressbar]');
        bar.setAttribute('aria-valuenow', now.percent);
        bar.setAttribute('aria-valuetext', now.words);
        for (const [state, [x, width]] of Object.entries(now.bars)) {
            const part = box.querySelector(`[data-bar="${state}"]`);
            part.setAttribute('x', x);
            part.setAttribute('width', width);
        }
        for (const [state, count] of Object.entries(now.counts)) {
            set(`[data-count="${state}"]`, String(count));
        }
        set('[data-words]', now.words);
        set('[data-left]', now.left);
        // Spoken at every tenth, not at every order.
        const tenth = Math.floor(now.percent / 10);
        if (tenth !== told) {
            told = tenth;
            set('[data-told]', `${now.words}. ${now.left}`);
        }
    }

    async function ask(status) {
        let next = EVERY_MS;
        try {
            const answer = await fetch(box.dataset.progress, {headers: {Accept: 'application/json'}});
            if (!answer.ok) {
                throw new Error(answer.status);
            }
            const now = await answer.json();
            if (now.status !== status) {
                window.location.reload();
                return;
            }
            show(now);
        } catch {
            next = LATER_MS; // the server is not there for a moment, or somebody has logged out
        }
        window.setTimeout(ask, next, status);
    }

    if (box && 'live' in box.dataset) {
        window.setTimeout(ask, EVERY_MS, box.querySelector('[data-label]').dataset.status);
    }
}
