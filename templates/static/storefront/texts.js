// The words that scripts say: they stand in templates/storefront/_texts.html, in the reader's language.

const find = name => document.getElementById('texts').content.querySelector(`[data-text="${CSS.escape(name)}"]`);

/** Whether there is a text of a name. */
export const has = name => find(name) !== null;

/** The text of a name, with {values} filled in. */
export function text(name, values = {}) {
    return find(name).textContent.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** An amount as people of the page's language write it. */
export function money(amount, currency) {
    return new Intl.NumberFormat(document.documentElement.lang, {style: 'currency', currency}).format(amount);
}
