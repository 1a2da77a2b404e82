// The cancellation dialog: who asked is asked only where the reason wants to know. Without this, it is always there.
'use strict';
{
    const reason = document.querySelector('select[name="reason"]');
    const contact = document.querySelector('[data-contact-fields]');
    const restock = document.querySelector('input[type="checkbox"][name="restock"]');

    function show() {
        const chosen = reason.selectedOptions[0];
        if (contact) {
            contact.hidden = chosen?.dataset.contact !== 'yes';
        }
    }

    if (reason) {
        show();
        reason.addEventListener('change', () => {
            show();
            const restocks = reason.selectedOptions[0]?.dataset.restock;
            if (restock && restocks) {
                restock.checked = restocks === 'yes';
                restock.dispatchEvent(new Event('change', {bubbles: true}));
            }
        });
    }
}
