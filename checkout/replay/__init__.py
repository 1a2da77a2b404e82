"""Replay of a shop's history: a file of invoices becomes products, stock, orders, shipments, returns and refunds.

    reading   the file, row by row; what cannot be read is rejected with its line and the reason
    planning  rows → steps; pure, so that every run of the same file plans the same
    doing     each step through the public doors, under a permanent key: what is done is skipped
    report    what came of it, by the file and by the books

The door is EventHandler.place, the one that checkout's purchase itself uses. A cart cannot say what an invoice says:
it holds a product once and at today's price, an invoice the same product twice and at the prices of that day.
"""
