"""Abstention: a study that its pixels show to be unsuitable is kept and shown, and never scored."""

from trauma_api.errors import InputError
from trauma_api.services.study_storage import StoredStudy


class StudyNotEligibleError(InputError):
    """The selected series is not an abdominal CT in Hounsfield units, judged from its pixels."""

    code = "study-not-eligible"
    title = "Study is not eligible"
    public_message = "The study is no CT of the abdomen, so it is not scored. Send the axial CT series of the abdomen."


def require_eligible(study: StoredStudy) -> None:
    """Raise StudyNotEligibleError, with the reasons, for a study that may not be scored."""
    eligibility = study.record.eligibility
    if eligibility.status == "ineligible":
        codes = ", ".join(reason.code for reason in eligibility.reasons)
        sentences = " ".join(reason.detail for reason in eligibility.reasons)
        raise StudyNotEligibleError(f"The study is not scored ({codes}). {sentences}")
