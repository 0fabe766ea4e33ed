"""Whether a sentence that the model wrote says what the facts say and nothing else.

The grammar already keeps digits out of everything but named slots. What it cannot bind is checked here: which slot
stands in which sentence, numbers in words, grades, sides, certainty, negation, advice, and every other word, as a
sentence may only use the words that are listed. That refuses harmless sentences too; a statement of the service then
takes their place, which costs style and never truth (docs/adr/0020-sentences-are-checked-before-release.md).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trauma_api.services.facts import Facts
from trauma_api.services.prompts import INSTRUCTIONS
from trauma_api.services.topics import SOLID_ORGANS, topic_of_slot, topics_in, without_topics

NOT_DERIVABLE = "Not derivable from this study."
"""The answer to what the facts do not hold."""

_SLOT = re.compile(r"\{([a-z_]+)\}")
_OPEN_OR_DIGIT = re.compile(r"[{}\d]")
"""The grammar allows neither; a reader that is served without it could write them."""
_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_FINISHED = re.compile(r"[.!?][\"')]*$")
_ECHOED_WORDS = 6
_WRONG_ANYWHERE = {
    "number-in-words": (
        r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty|"
        r"seventy|eighty|ninety|hundreds?|thousands?|zero|nil|half|halves|third|quarters?|dozens?|double|twice|once|"
        r"couple|several|few|many|multiple|single|first|second|lit(?:er|re)s?"
    ),
    "grade-outside-slot": r"(?<!low-)(?<!high-)(?<!low )(?<!high )grades?|class|aast|(?-i:I{1,3}|IV|VI?)",
    "unsupported-side": (
        r"left|right|both|bilateral\w*|unilateral\w*|anterior|posterior|upper|lower|medial|lateral|superior|inferior|"
        r"pole|lobe|lobes|quadrant|near|around|beside|behind"
    ),
    "unsupported-certainty": (
        r"exclud\w+|rul\w+\s+out|definite\w*|certain\w*|undoubted\w*|clear\w*|guarante\w+|impossible|prove[ns]?|"
        r"confirm\w*|safe\w*|sure\w*|surely|must|always|never|obvious\w*"
    ),
    "recommendation": (
        r"laparotomy|surg\w+|operat\w+|emboli[sz]\w+|angiograph\w+|transfus\w+|discharg\w+|admit\w*|observation|"
        r"recommend\w*|should|advis\w+|reboa|tranexamic|manag\w+|treat\w*|consider\w*|need\w*|urgent\w*|home"
    ),
    "echoes-prompt": r"slots?|prompts?|instructions?|json|facts?|systems?",
}
_WRONG = {reason: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for reason, words in _WRONG_ANYWHERE.items()}


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_PLAIN_WORDS = _words(
    "a an the about is are was were of in on at to for by as has have this that these it its there and study ct read "
    "seen level index rate pressure per minute mmhg mmol l g dl c celsius with from up between least most segmented "
    "measured estimate estimated unvalidated convention project s blood hemorrhage haemorrhage overall injury "
    "injuries result value score holds shows interval range"
)
"""What a sentence may say beside slots and the names of facts."""
_CLAIM_WORDS = _words(
    "no not without nor neither absent absence present injured uninjured intact normal unremarkable low-grade "
    "high-grade low high grade assessed available small moderate large or was been"
)
"""What a sentence without slots may say as well; what it claims with them is compared with the findings."""
_NEGATION = re.compile(r"\b(?:no|not|without|nor|neither|absent|absence|uninjured)\b", re.IGNORECASE)
_NORMAL = re.compile(r"\b(?:intact|normal|unremarkable)\b", re.IGNORECASE)
_INJURY = re.compile(r"\b(?:injur\w+|uninjured)\b", re.IGNORECASE)
_NOT_ASSESSED = re.compile(r"\bnot\s+(?:been\s+)?assessed\b", re.IGNORECASE)
_GRADE = re.compile(r"\b(low|high)[- ]grade\b", re.IGNORECASE)
_AMOUNT = re.compile(r"\b(small|moderate|large)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[,;]|\b(?:and|but|with|or|nor)\b|(?=\bwithout\b)", re.IGNORECASE)
_OF_BLOOD = re.compile(r"\s+of\s+(?:segmented\s+)?(?:blood|ha?emorrhage)\b", re.IGNORECASE)
_LOW_END = re.compile(r"\b(?:least|from|between|interval|range)\b", re.IGNORECASE)
_HIGH_END = re.compile(r"\b(?:most|up\s+to|interval|range)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """Why a sentence must not be shown, stable and kebab-case, empty where it may; and the facts that it is about."""

    reasons: tuple[str, ...]
    topics: tuple[str, ...]


def check(sentence: str, facts: Facts) -> Verdict:
    """Compare one sentence, its slots not filled yet, with the facts."""
    bare = _SLOT.sub(" ", sentence)
    slots = [topic_of_slot(name) for name in _SLOT.findall(sentence)]
    topics = tuple(dict.fromkeys((*topics_in(bare), *slots)))
    if sentence == NOT_DERIVABLE or _says_missing(sentence, facts):
        return Verdict((), topics)
    reasons = [reason for reason, words in _WRONG.items() if words.search(bare)]
    if _OPEN_OR_DIGIT.search(bare):
        reasons.append("outside-slot")
    if _echoes(bare) and "echoes-prompt" not in reasons:
        reasons.append("echoes-prompt")
    if not _FINISHED.search(sentence):
        reasons.append("unfinished")
    if slots:
        reasons += [] if _slots_fit(sentence, facts) else ["wrong-slot"]
        unbound = not set(topics_in(bare)) <= set(slots)
    else:
        reasons += _claims_against(bare, facts)
        unbound = not topics
    if unbound or not _words_known(bare, claims=not slots):
        reasons.append("unsupported-statement")
    return Verdict(tuple(dict.fromkeys(reasons)), topics)


def _says_missing(sentence: str, facts: Facts) -> bool:
    told = {statement for section in facts.statements.values() for statement in section}
    return sentence.endswith(": not available.") and sentence in told


def _echoes(text: str) -> bool:
    words = _WORD.findall(text.lower())
    return any(tuple(words[at : at + _ECHOED_WORDS]) in _ECHOES for at in range(len(words) - _ECHOED_WORDS + 1))


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    for at in range(len(words) - _ECHOED_WORDS + 1):
        yield tuple(words[at : at + _ECHOED_WORDS])


_ECHOES = frozenset(run for text in INSTRUCTIONS for run in _runs(text))


def _words_known(bare: str, *, claims: bool) -> bool:
    known = _PLAIN_WORDS | _CLAIM_WORDS if claims else _PLAIN_WORDS
    return all(word.lower() in known for word in _WORD.findall(without_topics(bare)))


def _slots_fit(sentence: str, facts: Facts) -> bool:
    """Whether each slot stands where the sentence names its fact, and no other."""
    pieces = _SLOT.split(sentence)
    before: str | None = None
    for at in range(1, len(pieces), 2):
        lead, slot, after = pieces[at - 1], pieces[at], pieces[at + 1]
        topic = topic_of_slot(slot)
        named = topics_in(lead) or ((topic,) if topic == before or _follows(topic, after) else ())
        if slot not in facts.slots or named != (topic,) or not _end_fits(slot, lead, pieces[1:at:2]):
            return False
        before = topic
    return True


def _follows(topic: str, after: str) -> bool:
    """Whether the fact is named behind its slot, as in ``{slice_count} slices`` and ``{volume_ml} of blood``."""
    return topic in topics_in(after) or (topic == "volume_ml" and _OF_BLOOD.match(after) is not None)


def _end_fits(slot: str, lead: str, earlier: list[str]) -> bool:
    """The ends of the volume's interval are told as such: after the volume in their order, or in so many words."""
    previous = earlier[-1] if earlier else None
    if slot == "volume_low_ml":
        return previous == "volume_ml" or _LOW_END.search(lead) is not None
    if slot == "volume_high_ml":
        return previous == "volume_low_ml" or _HIGH_END.search(lead) is not None
    return True


def _claims_against(bare: str, facts: Facts) -> list[str]:
    """What a sentence without slots claims of the findings and they do not say."""
    waiting: list[str] = []
    claimed: str | None = None
    reasons: list[str] = []
    for clause in _CLAUSE.split(bare):
        waiting += topics_in(clause)
        if _is_claim(clause):
            claimed = clause
        if claimed is not None:
            reasons += [reason for topic in waiting if (reason := _against(topic, claimed, facts)) is not None]
            waiting = []
    return reasons + ["unsupported-statement" for _ in waiting]


def _is_claim(clause: str) -> bool:
    words = (_NEGATION, _NORMAL, _INJURY, _AMOUNT, _GRADE)
    return any(word.search(clause) for word in words) or re.search(r"\bpresent\b", clause, re.IGNORECASE) is not None


def _against(topic: str, clause: str, facts: Facts) -> str | None:
    """Why a clause does not fit the finding that it is about; None where it does."""
    value = facts.values.get(topic)
    if value is None or topic in ("injury_pattern", "severity"):
        return "unsupported-statement"
    if _NOT_ASSESSED.search(clause):
        return None if value == "not_assessed" else "contradicts-findings"
    if len(_NEGATION.findall(clause)) > 1:
        return "unsupported-statement"
    if topic == "bowel_and_mesentery" and _denied(clause) and not re.search(r"\bseen\b", clause, re.IGNORECASE):
        return "unsupported-certainty"
    return None if value in _values_claimed(topic, clause) else "contradicts-findings"


def _denied(clause: str) -> bool:
    return (_NEGATION.search(clause) is not None) != (_NORMAL.search(clause) is not None)


def _values_claimed(topic: str, clause: str) -> frozenset[str]:
    """The values of a finding of which a clause would be true."""
    grade, amount = _GRADE.search(clause), _AMOUNT.search(clause)
    if topic in SOLID_ORGANS:
        if _denied(clause):
            return frozenset() if grade else frozenset({"none"})
        return frozenset({f"{grade[1].lower()}_grade"} if grade else {"low_grade", "high_grade"})
    if topic == "hemoperitoneum":
        if _denied(clause):
            return frozenset() if amount else frozenset({"none"})
        return frozenset({amount[1].lower()} if amount else {"small", "moderate", "large"})
    return frozenset({"absent"} if _denied(clause) else {"present"})
