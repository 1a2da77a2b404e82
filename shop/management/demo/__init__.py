"""The demo. data: what the shop sells, to whom; scenes: its orders; story: how each goes on; loading: all of it."""
