"""Short dates in English: the month by its name, for 11/12 is another day in Boston than in London."""

SHORT_DATE_FORMAT = "j M Y"
SHORT_DATETIME_FORMAT = "j M Y, H:i"
