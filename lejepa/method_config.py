"""The methods' own settings: one part each, told apart by `name`. Every default with its source."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from lejepa import heuristics_config, joint_config, masked_config
from lejepa.heuristics_config import PredictiveConfig
from lejepa.joint_config import (
    BarlowTwinsConfig,
    ByolConfig,
    DinoConfig,
    MocoV3Config,
    SimclrConfig,
    SimsiamConfig,
    SupervisedConfig,
    VicregConfig,
)
from lejepa.masked_config import Data2vecConfig, MaeConfig
from lejepa.masked_config import IjepaConfig as IjepaConfig
from lejepa.part import Part, Positive, Probability

if TYPE_CHECKING:
    from lejepa.config import TrainConfig

Statistic = Literal[
    "epps_pulley", "anderson_darling", "cramer_von_mises", "watson", "extended_jarque_bera", "shapiro_wilk", "vcreg",
    "vicreg", "moments",
]  # fmt: skip


class LejepaConfig(Part):
    """Prediction + λ·SIGReg; the defaults are LeJEPA's Algorithms 1 and 2 as coded.

    λ belongs to its convention: `lejepa/variants.py` has the published ones as values, and converts λ between them.
    """

    name: Literal["lejepa"] = "lejepa"
    weighting: Literal["convex", "additive"] = "convex"  # (1 − λ)·pred + λ·SIGReg, or pred + λ·SIGReg
    lamb: float = Field(0.05, ge=0)  # λ; convex: share of SIGReg, 0.05 at 8 views (paper §6.1), about 0.005·views (T7)
    centre: Literal["globals", "all", "pairs"] = "globals"  # what views predict: a mean, or each other
    teacher: Probability | None = None  # momentum of an EMA teacher that makes the centre; None: no teacher
    predictor: bool = False  # an MLP like the projector between a projection and the centre that it predicts (T4)
    statistic: Statistic = "epps_pulley"  # of every projected sample; lejepa/gaussianity.py has the others
    slices: Annotated[int, Field(ge=1)] | Literal["exact"] = 1024  # random directions (paper), or exact: all of them
    directions: Literal["resampled", "fixed"] = "resampled"  # new at every step (paper), or those of step 0
    t_max: Positive = 3.0  # end of the integration range, in standard deviations of the projection (official package)
    knots: int = Field(17, ge=2)  # quadrature points on the interval (official package)
    interval: Literal["half", "whole"] = "half"  # knots on [0, t_max], doubled (official package), or [−t_max, t_max]
    sample: Literal["views", "pooled"] = "views"  # SIGReg of every view, averaged, or of all views as one sample
    scale: Literal["batch", "none"] = "batch"  # the statistic times the size of its sample (paper), or not

    @field_validator("lamb")
    @classmethod
    def _share(cls, lamb: float, info: ValidationInfo) -> float:
        if info.data.get("weighting") == "convex" and lamb > 1:
            raise PydanticKnownError("less_than_equal", {"le": 1})
        return lamb

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.statistic != "epps_pulley":
            for name in ("t_max", "knots", "interval"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} belongs to the statistic epps_pulley, not to {self.statistic}")
            if self.slices == "exact":
                raise ValueError(f"slices: exact is known for the statistic epps_pulley, not for {self.statistic}")
        if self.centre == "pairs" and (self.teacher is not None or self.predictor):
            given = "teacher" if self.teacher is not None else "predictor"
            raise ValueError(f"a {given} needs a centre, and centre: pairs has none; leave `{given}` out")
        return self


class RandomConfig(Part):
    """Floor: the encoder at its initialisation, frozen."""

    name: Literal["random"] = "random"


class PixelsConfig(Part):
    """Floor: the image itself, flattened, as the embedding."""

    name: Literal["pixels"] = "pixels"


MethodConfig = Annotated[
    LejepaConfig
    | VicregConfig
    | BarlowTwinsConfig
    | SimclrConfig
    | MocoV3Config
    | ByolConfig
    | SimsiamConfig
    | DinoConfig
    | IjepaConfig
    | Data2vecConfig
    | MaeConfig
    | PredictiveConfig
    | SupervisedConfig
    | RandomConfig
    | PixelsConfig,
    Field(discriminator="name"),
]
METHODS = (
    "lejepa", "vicreg", "barlow_twins", "simclr", "moco_v3", "byol", "simsiam", "dino", "ijepa", "data2vec", "mae",
    "predictive", "supervised", "random", "pixels",
)  # fmt: skip
FLOORS = frozenset({"random", "pixels"})  # nothing is trained: one evaluation, no epochs

# What a method asks of other parts of the config where they leave it open.
IMPLIED: dict[str, dict[str, dict[str, Any]]] = {
    **joint_config.IMPLIED,
    **masked_config.IMPLIED,
}


def implied_by(method: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a method's settings, as written, ask of other parts of the config where those leave it open."""
    name = str(method.get("name"))
    return heuristics_config.implied_by(method) if name == "predictive" else IMPLIED.get(name, {})


def check_lejepa(config: "TrainConfig") -> None:
    """ValueError where a view has no other to be predicted from."""
    assert isinstance(config.method, LejepaConfig)
    views, other = config.views, config.method.teacher is not None or config.method.predictor
    if views.global_views + views.local_views < 2 and (config.method.centre == "pairs" or not other):
        raise ValueError("lejepa predicts one view of an image from others; set views.global_views to 2 or more")
