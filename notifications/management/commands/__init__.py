"""manage.py commands of notifications."""
