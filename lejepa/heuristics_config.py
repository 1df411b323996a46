"""The settings of `predictive`: the bare prediction, and each heuristic as one switch."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from lejepa.part import Part, Positive, Probability

if TYPE_CHECKING:
    from lejepa.config import TrainConfig


class Negatives(Part):
    """Mean over images of log Σ exp(cos / temperature) over all others: what repels in SimCLR's loss."""

    weight: Positive = 0.25  # temperature / 2: with two global views and `layer`, SimCLR's loss but for a factor
    temperature: Positive = 0.5  # SimCLR on CIFAR-10


class VarianceCovariance(Part):
    """VICReg's hinge on the deviation and its off-diagonal covariance."""

    variance: float = Field(0.25, ge=0)  # 25 in VICReg, whose 25·MSE of two views is 100 times the prediction here
    covariance: float = Field(0.01, ge=0)  # 1 in VICReg


class Heuristics(Part):
    """What keeps a prediction from collapsing, or is said to help. `true` stands for the value after the hash sign."""

    ema_teacher: Probability | None = None  # momentum of a teacher that makes the centre; 0.99: BYOL, 300 epochs
    ema_schedule: Literal["constant", "linear", "cosine"] = "constant"  # of the momentum, to 1 at the last step
    stop_gradient: bool = False  # through the centre; a teacher has it
    predictor: bool = False  # an MLP of the projector's shape between a projection and the centre that it predicts
    normalisation: Literal["none", "batch", "layer", "whitening"] = "none"  # last step of the projector, no parameters
    negatives: Negatives | None = None  # images of the batch repel each other
    variance_covariance: VarianceCovariance | None = None
    sigreg: Probability | None = None  # λ of LeJEPA: (1 − λ)·pred + λ·SIGReg; 0.05: paper §6.1
    wd_schedule: float | None = Field(None, ge=0)  # weight decay at the end, on a cosine; 0.4: DINO, I-JEPA

    @field_validator(
        "ema_teacher", "negatives", "variance_covariance", "sigreg", "wd_schedule", mode="before",
        json_schema_input_type=bool | float | Negatives | VarianceCovariance | None,
    )  # fmt: skip
    @classmethod
    def _switched(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool):  # a number in Python: 1.0 would be a momentum, and a λ
            return _TRUE[info.field_name] if value else None
        return value

    @model_validator(mode="before")
    @classmethod
    def _teacher_stops_the_gradient(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("ema_teacher") not in (None, False):
            return {"stop_gradient": True, **raw}
        return raw

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.ema_teacher is None and self.ema_schedule != "constant":
            raise ValueError(f"ema_schedule: {self.ema_schedule} is of a teacher's momentum; set ema_teacher, too")
        if self.ema_teacher is not None and not self.stop_gradient:
            raise ValueError("an ema_teacher takes no gradient; leave stop_gradient out, or set it to true")
        asks = "sigreg" if self.sigreg is not None else "variance_covariance" if self.variance_covariance else None
        if self.normalisation == "layer" and asks:
            raise ValueError(
                f"{asks} asks for unit variance in every direction, and normalisation: layer leaves none along "
                "(1, …, 1); take batch or whitening"
            )
        if self.normalisation == "whitening" and self.variance_covariance:
            raise ValueError("whitened projections have unit variance and no covariance; leave variance_covariance out")
        return self


_TRUE: dict[str, Any] = {
    "ema_teacher": 0.99, "negatives": Negatives(), "variance_covariance": VarianceCovariance(), "sigreg": 0.05,
    "wd_schedule": 0.4,
}  # fmt: skip


class PredictiveConfig(Part):
    """LeJEPA's prediction without a regulariser, and heuristics one by one; without any it collapses."""

    name: Literal["predictive"] = "predictive"
    heuristics: Heuristics = Heuristics()
    slices: Annotated[int, Field(ge=1)] | Literal["exact"] = 1024  # of sigreg, as in LejepaConfig


def implied_by(method: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What raw settings of `predictive` ask of other parts of the config where those leave it open."""
    heuristics = method.get("heuristics")
    end = heuristics.get("wd_schedule") if isinstance(heuristics, dict) else None
    if end is None or end is False:
        return {}
    return {"optimizer": {"weight_decay_end": _TRUE["wd_schedule"] if end is True else end}}


def check_predictive(config: "TrainConfig") -> None:
    """ValueError where other parts of the config contradict the heuristics."""
    assert isinstance(config.method, PredictiveConfig)
    heuristics, end = config.method.heuristics, config.optimizer.weight_decay_end
    views = config.views.global_views + config.views.local_views
    if views < 2:
        raise ValueError("predictive predicts one view from others; set views.global_views to 2 or more")
    if end != heuristics.wd_schedule:
        raise ValueError(
            f"optimizer.weight_decay_end is {end}, and method.heuristics.wd_schedule is {heuristics.wd_schedule}; "
            "set the switch alone"
        )
    if heuristics.normalisation == "whitening" and config.batch_size * views < 2 * config.projector.dim:
        raise ValueError(
            f"whitening {config.projector.dim} features takes two rows for each, and a batch has "
            f"{config.batch_size} × {views} views; take a larger batch_size or a smaller projector.dim"
        )
