"""Which region an address means: by its code, also as ISO 3166-2 writes it, in the local language or in English. Pure.

The library `holidays` knows codes and local names, of the countries where public holidays differ by region. English
names, and Spain's provinces (addresses name those, holidays are of the communities), stand here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from holidays import country_holidays

# Country → the library's code → names, parted by |.
MORE_NAMES: dict[str, dict[str, str]] = {
    "AT": {
        "2": "Carinthia", "3": "Lower Austria", "4": "Upper Austria", "6": "Styria", "7": "Tyrol", "9": "Vienna",
    },
    "CH": {
        "AI": "Appenzell Inner Rhodes|Appenzell Rhodes-Intérieures|Appenzello Interno",
        "AR": "Appenzell Outer Rhodes|Appenzell Rhodes-Extérieures|Appenzello Esterno",
        "AG": "Argovia|Argovie", "BE": "Berna", "BL": "Basel-Country|Bâle-Campagne", "BS": "Basel-City|Bâle-Ville",
        "GE": "Geneva|Genf|Ginevra", "GL": "Glaris", "GR": "Grisons", "LU": "Lucerne", "NE": "Neuenburg",
        "NW": "Nidwald", "OW": "Obwald", "SG": "Saint Gallen|St. Gallen|Saint-Gall", "SH": "Schaffhouse",
        "SO": "Soleure", "TG": "Thurgovia|Thurgovie", "TI": "Tessin", "VD": "Waadt", "VS": "Vallese", "ZG": "Zoug",
        "ZH": "Zurich|Zurigo",
    },
    "DE": {
        "BW": "Baden-Wurttemberg", "BY": "Bavaria", "HE": "Hesse", "MV": "Mecklenburg-Western Pomerania",
        "NI": "Lower Saxony", "NW": "North Rhine-Westphalia|NRW", "RP": "Rhineland-Palatinate", "SN": "Saxony",
        "ST": "Saxony-Anhalt", "TH": "Thuringia",
    },
    "ES": {
        "AN": "Andalusia|Almería|AL|Cádiz|CA|Córdoba|CO|Granada|GR|Huelva|H|Jaén|J|Málaga|MA|Sevilla|Seville|SE",
        "AR": "Aragon|Huesca|HU|Teruel|TE|Zaragoza|Saragossa|Z",
        "AS": "O",
        "CB": "S",
        "CL": "Castile and León|Ávila|AV|Burgos|BU|León|LE|Palencia|P|Salamanca|SA|Segovia|SG|Soria|SO|Valladolid|VA|"
        "Zamora|ZA",
        "CM": "Castile-La Mancha|Albacete|AB|Ciudad Real|CR|Cuenca|CU|Guadalajara|GU|Toledo|TO",
        "CN": "Canary Islands|Las Palmas|GC|Santa Cruz de Tenerife|TF",
        "CT": "Catalonia|B|Girona|Gerona|GI|Lleida|Lérida|L|Tarragona|T",
        "EX": "Badajoz|BA|Cáceres|CC",
        "GA": "A Coruña|La Coruña|C|Lugo|LU|Ourense|Orense|OR|Pontevedra|PO",
        "IB": "Balearic Islands|Baleares|PM",
        "MC": "MU",
        "MD": "M",
        "NC": "Navarre|Nafarroa|NA",
        "PV": "Basque Country|Euskadi|Álava|Araba|VI|Guipúzcoa|Gipuzkoa|SS|Vizcaya|Bizkaia|Biscay|BI",
        "RI": "LO",
        "VC": "Valencia|València|Valencian Community|Comunitat Valenciana|V|Alicante|Alacant|A|Castellón|Castelló|CS",
    },
    "FI": {"01": "Åland|Åland Islands|Ahvenanmaa"},
    "FR": {
        "6AE": "Bas-Rhin|67|Haut-Rhin|68", "973": "French Guiana", "974": "Réunion", "NC": "New Caledonia",
        "PF": "French Polynesia",
    },
    "IT": {
        "BZ": "South Tyrol|Südtirol|Alto Adige|Bozen", "FI": "Florence", "GE": "Genoa", "MB": "Monza and Brianza",
        "MI": "Milan", "MN": "Mantua", "NA": "Naples", "PD": "Padua", "RM": "Rome", "SR": "Syracuse", "TN": "Trentino",
        "TO": "Turin", "VE": "Venice",
    },
    "PT": {"11": "Lisbon", "13": "Oporto", "20": "Azores|Açores", "30": "Madeira"},
}  # fmt: skip

UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
# What may stand before a name: “Freistaat Bayern”, “Canton of Geneva”, “Comunidad de Madrid”.
CALLED = re.compile(
    r"^(freistaat|free state|bundesland|land|state|[ck]anton|cantone|comunidad( autonoma| foral)?|region|principado|"
    r"provin(cia|ce)|distrito|district)( (of|de la|de|del|du|di|d))? "
)


def region_code(country: str, region: str) -> str | None:
    """The code by which `holidays` knows a region; None: none is named, or nobody knows it.

    country  two letters
    region   as somebody wrote it: “BY”, “DE-BY”, “Bayern”, “Bavaria”, “Baden-Wuerttemberg”, in any case
    """
    known = _names(country.upper())
    written = _plain(region).removeprefix(f"{country.casefold()} ") if "-" in region else _plain(region)
    return known.get(written) or known.get(CALLED.sub("", written))


@cache
def _names(country: str) -> dict[str, str]:
    """Every way to write each region of a country, plainly → its code. Codes and local names go first."""
    try:
        its = country_holidays(country)
    except NotImplementedError:
        return {}
    names = [(code, code) for code in its.subdivisions] + list(its.subdivisions_aliases.items())
    names += [(name, code) for code, more in MORE_NAMES.get(country, {}).items() for name in more.split("|")]
    found: dict[str, str] = {}
    for name, code in names:
        for way in (_plain(name), _plain(name.casefold().translate(UMLAUTS))):
            found.setdefault(way, code)
    return found


def _plain(name: str) -> str:
    """Small letters and digits with single spaces, without accents."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in letters if not unicodedata.combining(c))))
