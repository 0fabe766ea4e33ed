"""Answers to questions of fact: scripted conversations through the real question service, each answer judged.

The truth of an answer is what the briefing found, as answers must repeat it; how right that is, is measured elsewhere.
"""

import random
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trauma_api.container import Container
from trauma_api.errors import TraumaAPIError
from trauma_api.evaluation.finished import finished_briefing
from trauma_api.evaluation.report_check import outcomes_of
from trauma_api.evaluation.results import AskedQuestion
from trauma_api.schemas.analysis import AnalysisResult, Findings
from trauma_api.schemas.report import ProseSentence
from trauma_api.schemas.sessions import QuestionRequest
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.facts import collect_facts
from trauma_api.services.study_storage import StoredStudy

TURNS = 3
ORGANS = ("liver", "spleen", "kidneys")
VALUES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ORGANS, ("none", "low_grade", "high_grade", "not_assessed")),
    **dict.fromkeys(("bowel_and_mesentery", "active_extravasation"), ("absent", "present", "not_assessed")),
    "hemoperitoneum": ("none", "small", "moderate", "large", "not_assessed"),
}
"""The fields of the form that are facts, and their values."""
RISK_LEVELS = ("LOW", "MODERATE", "HIGH")
FACTS = (*VALUES, "volume_ml", "risk_level")

_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "liver": ("Is the liver injured?", "What grade is the liver injury?", "What about the liver?"),
    "spleen": ("Is the spleen injured?", "What grade is the spleen injury?", "What about the spleen?"),
    "kidneys": ("Are the kidneys injured?", "What grade is the kidney injury?", "What about the kidneys?"),
    "bowel_and_mesentery": ("Is there a bowel injury?", "Are the bowel and mesentery injured?"),
    "active_extravasation": ("Is there active bleeding?", "Do you see active extravasation?"),
    "hemoperitoneum": ("Is there free blood in the belly?", "How large is the hemoperitoneum?"),
    "volume_ml": ("How many mL of blood are there?", "What is the hemorrhage volume?", "How many millilitres is it?"),
    "risk_level": ("What is the risk level?", "Which risk level does this study have?"),
}
_FOLLOW_UPS = ("And the {}?", "What about the {}?")
HELD_OUT_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "liver": ("Has the trauma hit the liver?", "Give the liver finding."),
    "spleen": ("Has the trauma hit the spleen?", "Give the spleen finding."),
    "kidneys": ("Has the trauma hit the kidneys?", "Give the kidney finding."),
    "bowel_and_mesentery": ("Did the bowel come to harm?", "Give the bowel finding."),
    "active_extravasation": ("Are there signs that bleeding goes on?", "Does contrast escape anywhere?"),
    "hemoperitoneum": ("Has blood collected in the peritoneal cavity?", "Give the size of the hemoperitoneum."),
    "volume_ml": ("How many mL has the segmentation counted?", "State the blood volume, please."),
    "risk_level": ("Into which risk level does this fall?", "Name the risk level."),
}
"""Half of the questions. No training may use these: the share right on them alone says what unseen wordings give."""
_HELD_OUT_FOLLOW_UPS = ("Same for the {}?", "Now the {}, please.")
_SUBJECTS: Mapping[str, str] = {
    "liver": r"liver|hepatic",
    "spleen": r"spleen|splenic",
    "kidneys": r"kidneys?|renal",
    "bowel_and_mesentery": r"bowel|mesenter\w+",
    "active_extravasation": r"extravasation|active(ly)? bleeding",
    "hemoperitoneum": r"hemoperitoneum|free blood",
    "volume_ml": r"volume|amount",
    "risk_level": r"risk",
}
_ABSENT = frozenset({"none", "absent"})
_MILLILITRES = re.compile(r"(?<![\d.])\d+(?:\.\d+)? mL")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


@dataclass(frozen=True)
class Expected:
    """What an answer on a fact must state, and what would contradict it."""

    fact: str
    right: str
    wrong: frozenset[str]
    positive: bool | None
    """What a yes-or-no question is answered with; None where neither says it."""


def expected_answers(study: StoredStudy, findings: Findings, volume: VolumeResult) -> dict[str, Expected]:
    """The facts that have a slot, in the words of the service; those of other values come from their own findings."""
    slots = collect_facts(study, findings, volume, None, None).slots
    found: dict[str, Expected] = {}
    for field, values in VALUES.items():
        if field not in slots:
            continue
        words = {value: _words(study, findings, volume, field, value) for value in values}
        value = getattr(findings, field).value
        found[field] = Expected(
            fact=field,
            right=slots[field],
            wrong=frozenset(words.values()) - {slots[field]},
            positive=None if value == "not_assessed" else value not in _ABSENT,
        )
    if "risk_level" in slots:
        right = slots["risk_level"]
        found["risk_level"] = Expected("risk_level", right, frozenset(RISK_LEVELS) - {right}, None)
    if "volume_ml" in slots:
        found["volume_ml"] = Expected("volume_ml", slots["volume_ml"], frozenset(), None)
    return found


def _words(study: StoredStudy, findings: Findings, volume: VolumeResult, field: str, value: str) -> str:
    finding = getattr(findings, field).model_copy(update={"value": value})
    other = findings.model_copy(update={field: finding})
    return collect_facts(study, other, volume, None, None).slots[field]


def is_right(answer: str, expected: Expected, allowed_ml: frozenset[str] = frozenset()) -> bool:
    """Whether an answer, as shown, states the value and nothing that contradicts it.

    Sentences about other facts alone do not count. "Yes" and "no" at the start must fit the value. Other millilitres
    than the volume are a contradiction, but for ``allowed_ml``, the interval.
    """
    about = " ".join(_sentences_about(answer, expected.fact))
    if not _holds(about, expected.right) or _denies(answer, expected):
        return False
    if expected.fact == "volume_ml":
        return set(_MILLILITRES.findall(about)) <= {expected.right, *allowed_ml}
    rest = re.sub(_phrase(expected.right), " ", about, flags=re.IGNORECASE)
    return not any(_holds(rest, wrong) for wrong in expected.wrong)


def _sentences_about(answer: str, fact: str) -> Iterator[str]:
    for sentence in _SENTENCE_END.split(answer):
        named = {name for name, words in _SUBJECTS.items() if re.search(rf"\b(?:{words})\b", sentence, re.IGNORECASE)}
        if not named or fact in named:
            yield sentence


def _denies(answer: str, expected: Expected) -> bool:
    said = re.match(r"\s*(yes|no)\b", answer, re.IGNORECASE)
    return said is not None and expected.positive is not None and (said[1].lower() == "yes") != expected.positive


def _holds(text: str, value: str) -> bool:
    return re.search(_phrase(value), text, re.IGNORECASE) is not None


def _phrase(value: str) -> str:
    return rf"(?<![\w.]){re.escape(value)}(?!\w)"


def script(facts: tuple[str, ...], seed: str, *, held_out: bool) -> list[tuple[str, str]]:
    """A conversation of three turns on different facts, as (fact, question); the same for the same seed.

    ``held_out`` takes the wordings that no training uses, else plain ones, which it may.
    """
    follow_ups, questions = (_HELD_OUT_FOLLOW_UPS, HELD_OUT_WORDINGS) if held_out else (_FOLLOW_UPS, _QUESTIONS)
    draw = random.Random(seed)  # noqa: S311  # picks questions, not secrets
    turns: list[tuple[str, str]] = []
    drawn = draw.sample(facts, min(TURNS, len(facts)))
    # Organs next to each other, so that "And the spleen?" has something to follow.
    for fact in sorted(drawn, key=lambda fact: fact in ORGANS, reverse=draw.random() < 0.5):
        follows = fact in ORGANS and bool(turns) and turns[-1][0] in ORGANS
        wording = draw.choice(follow_ups if follows else questions[fact])
        turns.append((fact, wording.format(fact)))
    return turns


async def ask(
    container: Container,
    study: StoredStudy,
    reading: AnalysisResult,
    volume: VolumeResult,
    *,
    conversations: int,
    seed: str,
) -> list[AskedQuestion]:
    """Hold the conversations on one study, each in a session of its own. A failed answer is kept with its code."""
    expected = expected_answers(study, reading.findings, volume)
    slots = collect_facts(study, reading.findings, volume, None, None).slots
    interval = frozenset(slots[name] for name in ("volume_low_ml", "volume_high_ml") if name in slots)
    facts = tuple(fact for fact in FACTS if fact in expected)
    asked: list[AskedQuestion] = []
    first = random.Random(seed).random() < 0.5  # noqa: S311
    for number in range(conversations):
        held_out = (number % 2 == 0) == first
        session_id = uuid.uuid4().hex
        await container.sessions.create(session_id, finished_briefing(study, reading, volume, None), on_sample=False)
        for turn, (fact, question) in enumerate(script(facts, f"{seed} {number}", held_out=held_out), start=1):
            text, sentences, code = await _answer(container, session_id, question)
            right = code is None and is_right(text, expected[fact], interval)
            asked.append(
                AskedQuestion(
                    conversation=number,
                    turn=turn,
                    fact=fact,
                    held_out=held_out,
                    question=question,
                    answer=text,
                    expected=expected[fact].right,
                    right=right,
                    sentences=outcomes_of(sentences),
                    failure_code=code,
                )
            )
        await container.sessions.delete(session_id)
    return asked


async def _answer(container: Container, session_id: str, question: str) -> tuple[str, list[ProseSentence], str | None]:
    try:
        running = await container.questions.ask(session_id, QuestionRequest(question=question))
    except TraumaAPIError as error:
        return "", [], error.code
    await running.ended.wait()
    return running.answer.text, running.answer.sentences, running.answer.failure_code
