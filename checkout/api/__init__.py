"""What the storefront may ask before there is an order: products, methods, cart, address book, purchase."""
