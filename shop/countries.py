"""Countries by their names, in the language of whoever reads."""

from babel import Locale, UnknownLocaleError
from django.utils.translation import get_language, to_locale


def locale() -> Locale:
    """This will give what Babel knows of the active language; of one that it does not know, English."""
    try:
        return Locale.parse(to_locale(get_language() or "en"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")


def country_name(code: str) -> str:
    """This will name a country in the active language; a code that is no country's stays as it is."""
    return str(locale().territories.get(code.upper(), code))
