"""Closed words made from the free text of headers. The text itself never leaves these functions.

Words are matched whole and without regard to case and accents. English, German, French, Spanish, Italian, Portuguese
and Dutch, with the abbreviations in use.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from trauma_api.imaging.study import Phase

_LOCALIZER = frozenset(
    {
        "LOCALIZER",
        "LOCALISER",
        "SCOUT",
        "TOPO",
        "TOP",
        "TOPOGRAM",
        "SURVIEW",
        "SCANO",
        "SCANOGRAM",
        "SCANOSCOPE",
        "PILOT",
    }
)
_REFORMAT = frozenset(
    {
        "MPR", "CPR", "CURVED", "REFORMATTED", "REFORMAT", "RESAMPLED", "MIP", "MINIP", "CSAMIP", "CSAPARALLEL",
        "CSAMPR", "MAXIMUM", "MINIMUM", "PROJECTION", "RENDERED", "VOLREN", "VRT", "SSD", "3D", "SUBTRACTION",
        "AVERAGE",
    }
)  # fmt: skip

_WITHOUT = (
    r"(?:without|w o|wo|ohne|o|sans|sin|senza|sem|zonder|non|no|pre|before|vor|avant|voor) (?:iv |ev |i v |de )?"
    r"(?:contrast|contraste|contrasto|kontrast(?:mittel)?|km|iv|kv|pdc|mdc|mezzo|produit|cm|injection)"
)
_WORDS: Mapping[Phase, str] = MappingProxyType(
    {
        "non_contrast": _WITHOUT + r"|non ?contrast|noncontrast|nc|ncct|nect|unenhanced|non enhanced|non injecte|"
        r"s (?:contraste|contrasto|cte|mdc|pdc)|plain|nativ[eao]?|natief|blanco|blank|vierge|basale?|wo|w o|"
        r"spc|spci|smdc|precontraste?",
        "arterial": r"art|arterial|arteriell(?:e[rs]?)?|arteriel|arteriosa|arterioso|arterieel|arteriele|artphase|cta|"
        r"angio|angiography|angiographie|angiografia|angiotc|angiotac|angioct|hap|eap|pancreatic|pankreatisch",
        "portal_venous": r"pv|pvp|ven|vp|pven|venous|venoes|venos|venose|venoese|veineux|veineuse|venosa|venoso|veneus|"
        r"veneuze|portal|portale|portalveno(?:u|e)?s|portoveno(?:u|e)?s|portovenosa|portaal|portaalveneus|"
        r"portoveneus|portalphase|parenchymal|nephrographic",
        "delayed": r"delay|delayed|dly|late|spat|spaet|spatphase|spaetphase|spate|spaete|tardif|tardive|tardia|tardio|"
        r"tardivo|tardiva|laat|excretory|excretion|exkretorisch|excretrice|excretora|escretoria|excretoria|excretiefase|"
        r"urographic|urographie|urogram|urografia|uro|urografica|equilibrium|equilibre|equilibrio|ausscheidung|"
        r"ausscheidungsphase|pyelographic|washout",
    }
)
_PHASE_WORDS = tuple((phase, re.compile(rf"\b(?:{words})\b")) for phase, words in _WORDS.items())
_LATE_ARTERIAL = re.compile(r"\b(?:late|spat|spaet) ?art(?:erial|eriell)?\w*\b")
_SECONDS = re.compile(r"(?<![\w.,])(\d{2,3}) ?(?:s|sec|secs|sek|seg|seconds)\b")
_MINUTES = re.compile(r"(?<![\w.,])(\d{1,2}) ?(?:mn|min|mins|minutes|minuten)\b")
_PHASE_SECONDS: tuple[tuple[Phase, int, int], ...] = (
    ("arterial", 15, 45),
    ("portal_venous", 55, 100),
    ("delayed", 150, 999),
)
_NO_AGENT = frozenset(
    {
        "NONE", "NO", "NIL", "N", "NA", "OHNE", "KEIN", "KEINE", "SANS", "SIN", "SENZA", "SEM", "ZONDER", "WITHOUT",
        "AUCUN", "NINGUNO", "NESSUNO", "NENHUM", "GEEN", "UNENHANCED", "NATIV", "0",
    }
)  # fmt: skip

_SIEMENS_KERNEL = re.compile(r"^[A-Z][A-Z]?(\d\d)[A-Z]{0,2}$")
_CANON_KERNEL = re.compile(r"^FC(\d\d)")
_SHARP_FROM_SIEMENS = 56
_SHARP_KERNELS = frozenset(
    {"BONE", "BONEPLUS", "BONE+", "LUNG", "LUNG+", "EDGE", "EDGE+", "ULTRA", "SHARP", "YB", "YC", "YD", "L", "D", "E"}
)
_SOFT_KERNELS = frozenset({"STANDARD", "STND", "STD", "SOFT", "SMOOTH", "DETAIL", "A", "B", "UA", "UB", "BODY"})
_SHARP_CANON = range(30, 40), range(50, 60), range(80, 90)
_SOFT_CANON = (range(1, 30),)


def is_localizer(kinds: Sequence[str]) -> bool:
    """Whether ImageType or FrameType names a localizer (DICOM PS3.3 section C.8.2.1.1.1), by its makers' names too."""
    return not _LOCALIZER.isdisjoint(_upper_words(kinds))


def is_derived(kinds: Sequence[str]) -> bool:
    """Whether ImageType or FrameType says DERIVED or SECONDARY, or names a reformat or a projection."""
    first_two = {kind.strip().upper() for kind in kinds[:2]}
    return bool(first_two & {"DERIVED", "SECONDARY"}) or not _REFORMAT.isdisjoint(_upper_words(kinds))


def stated_phase(texts: Sequence[str], contrast_agent: bool | None) -> Phase:
    """The contrast phase that the first text with any word for one names.

    ``texts`` go from the most to the least specific. "unknown" without such words, with words for several phases, and
    for an unenhanced phase where a contrast agent is stated.
    """
    for text in texts:
        if phases := _phases(text):
            phase = next(iter(phases))
            contradicted = len(phases) > 1 or (phase == "non_contrast" and contrast_agent is True)
            return "unknown" if contradicted else phase
    return "unknown"


def states_agent(text: str) -> bool:
    """Whether the text names a contrast agent, and does not say that there was none."""
    words = _upper_words([text])
    return bool(words) and words.isdisjoint(_NO_AGENT)


def is_sharp_kernel(names: Sequence[str]) -> bool | None:
    """Whether a reconstruction kernel is one for bone or lung; None for one that is not known."""
    for name in names:
        kernel = name.strip().upper()
        for word in (kernel, *kernel.split()):
            if word in _SHARP_KERNELS:
                return True
            if word in _SOFT_KERNELS:
                return False
        if found := _CANON_KERNEL.match(kernel):
            number = int(found[1])
            sharp = any(number in numbers for numbers in _SHARP_CANON)
            return sharp or (False if any(number in numbers for numbers in _SOFT_CANON) else None)
        if found := _SIEMENS_KERNEL.match(kernel):
            return int(found[1]) >= _SHARP_FROM_SIEMENS
    return None


@lru_cache(maxsize=64)
def _phases(text: str) -> frozenset[Phase]:
    plain = _LATE_ARTERIAL.sub("arterial", _plain(text))
    found = frozenset(phase for phase, words in _PHASE_WORDS if words.search(plain))
    if found:
        return found
    seconds = [int(number) for number in _SECONDS.findall(plain)]
    seconds += [60 * int(number) for number in _MINUTES.findall(plain)]
    return frozenset(phase for phase, low, high in _PHASE_SECONDS for second in seconds if low <= second <= high)


def _plain(text: str) -> str:
    """Lower case without accents, everything but letters, digits and decimal points as spaces."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)", " ", letters).split())


def _upper_words(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in re.split(r"[^A-Z0-9]+", text.upper()) if word}
