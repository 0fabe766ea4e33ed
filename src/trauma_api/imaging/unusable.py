"""Why one DICOM file of an upload is left out."""

from typing import ClassVar

from trauma_api.errors import InputError


class UnusableFileError(InputError):
    """One DICOM file cannot be used; the others of its upload can."""

    because: ClassVar[str] = "cannot be used"
    """What is wrong with the file, as a predicate."""


class MalformedDicomError(UnusableFileError):
    """A DICOM file cannot be parsed, or its attributes contradict each other."""

    code = "malformed-dicom"
    title = "DICOM file is damaged"
    public_message = "A DICOM file is damaged. Export it again, or send the study without it."
    because = "is damaged DICOM"


class DicomNestingError(UnusableFileError):
    """Sequences inside sequences, deeper than any image has."""

    code = "dicom-nesting"
    title = "DICOM sequences are nested too deeply"
    public_message = "A DICOM file nests sequences too deeply. Export it again, or send the study without it."
    because = "nests sequences too deeply"


class DicomTooManyElementsError(UnusableFileError):
    """More data elements than any image has."""

    code = "dicom-too-many-elements"
    title = "DICOM file has too many elements"
    public_message = "A DICOM file has too many data elements. Export it again, or send the study without it."
    because = "has too many data elements"


class DicomTextTooLongError(UnusableFileError):
    """A text value longer than any image has."""

    code = "dicom-text-too-long"
    title = "DICOM text is too long"
    public_message = "A DICOM file has a text value that is too long. Export it again, or send the study without it."
    because = "has a text value that is too long"


class DicomTooManyFramesError(UnusableFileError):
    """More frames than the limit."""

    code = "dicom-too-many-frames"
    title = "DICOM file has too many frames"
    public_message = "A DICOM file has too many frames. Send the series in smaller files, or one file per slice."
    because = "has too many frames"
