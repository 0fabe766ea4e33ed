"""AI on abdominal trauma CT, served as a typed REST API. Research use only."""

__version__ = "0.1.0"
