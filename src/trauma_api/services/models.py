"""What is loaded."""

from collections.abc import Sequence

from trauma_api.engines.base import EngineInfo
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.models import LoadedModel, ModelList


def list_models(profile: str, slice_budget: int, infos: Sequence[EngineInfo]) -> ModelList:
    """The loaded models as clients see them."""
    return ModelList(
        profile=profile,
        slice_budget=slice_budget,
        models=[
            LoadedModel(
                role=info.role,
                checkpoint=info.checkpoint,
                architecture=info.architecture,
                sha256=info.sha256,
                trained_on=info.trained_on,
                adapter=info.adapter,
                device=info.device,
                dtype=info.dtype,
            )
            for info in infos
        ],
        notice=RESEARCH_NOTICE,
    )
