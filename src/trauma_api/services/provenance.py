"""From what an engine says of itself to what results carry."""

from trauma_api.engines.base import EngineInfo
from trauma_api.schemas.base import Caveat, ModelProvenance


def provenance_of(info: EngineInfo, duration_s: float, *, adapter_on: bool = True) -> ModelProvenance:
    """Provenance of one result of an engine; ``adapter_on`` says whether its adapter took part."""
    return ModelProvenance(
        role=info.role,
        checkpoint=info.checkpoint,
        architecture=info.architecture,
        sha256=info.sha256,
        trained_on=info.trained_on,
        adapter=info.adapter if adapter_on else None,
        device=info.device,
        dtype=info.dtype,
        duration_s=round(duration_s, 3),
    )


def caveats_of(info: EngineInfo) -> list[Caveat]:
    """What a reader of an engine's results must know about its weights."""
    if info.trained_on != "untrained":
        return []
    return [
        Caveat(
            code="untrained-checkpoint",
            detail=f"The {info.role} checkpoint is untrained: this result is random and says nothing about the images.",
        )
    ]
