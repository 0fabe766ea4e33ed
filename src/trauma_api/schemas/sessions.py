"""Sessions: a finished briefing kept for questions, and the answers."""

from typing import Annotated, Literal

from pydantic import Field

from trauma_api.schemas.base import Caveat, ModelProvenance, Schema, Timestamp
from trauma_api.schemas.report import ProseSentence

AnswerStatus = Literal["running", "done", "stopped", "failed"]


class QuestionRequest(Schema):
    """A question on the session's study."""

    question: Annotated[
        str,
        Field(min_length=1, max_length=2000, pattern=r"\S", examples=["Is there active bleeding, and where?"]),
    ]
    on_disconnect: Literal["stop", "continue"] = Field(
        default="stop",
        description="Whether the answer goes on when the stream's client leaves; `continue` lets it be fetched later.",
    )


class Answer(Schema):
    """An answer: complete, or as far as it got."""

    answer_id: str
    session_id: str
    status: AnswerStatus
    question: str
    text: str
    sentences: list[ProseSentence] = Field(description="What the text is made of, and how each sentence was checked.")
    failure_code: str | None
    created_at: Timestamp
    finished_at: Timestamp | None
    provenance: list[ModelProvenance]
    warnings: list[Caveat]
    notice: str


class TurnRecord(Schema):
    """One question and its answer, as kept in the history."""

    answer_id: str
    question: str
    answer: str
    at: Timestamp


class Session(Schema):
    """A session and its history."""

    session_id: str
    briefing_id: str
    study_id: str
    created_at: Timestamp
    expires_at: Timestamp = Field(description="Moves on with each use, to 8 hours after creation at most.")
    history: list[TurnRecord]
    notice: str


class StatusEvent(Schema):
    """First event of a stream: the question was taken and its answer has an id."""

    answer_id: str
    status: Literal["running"]


class TokenEvent(Schema):
    """The next piece of the answer's text: a sentence that has passed the check against the results."""

    text: str


class DoneEvent(Schema):
    """Last event of a stream that went well: the whole answer."""

    answer: Answer


class ErrorEvent(Schema):
    """Last event of a stream that failed."""

    code: str
    detail: str
    retryable: bool
    answer_id: str
