"""Messages to customers: what was said to whom, when, and whether it was sent."""
