"""The settings of the views, and the published recipes that fill in what a config leaves out."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lejepa.part import Part, Positive, Probability

# What each recipe sets where the config leaves it out. `paper`: LeJEPA §6.1; `crop`: I-JEPA; `digits`: small grey
# images where a flip or a strong crop changes the class.
VIEW_RECIPES: dict[str, dict[str, Any]] = {
    "paper": dict(
        global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), ratio=(3 / 4, 4 / 3), flip=0.5, jitter=0.8,
        brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.5, solarize=0.2,
        rotate=0.0, cutout=0.0,
    ),
    "crop": dict(
        global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), ratio=(3 / 4, 4 / 3), flip=0.0, jitter=0.0,
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, solarize=0.0,
        rotate=0.0, cutout=0.0,
    ),
    "digits": dict(
        global_scale=(0.6, 1.0), local_scale=(0.4, 0.8), ratio=(0.85, 1.18), flip=0.0, jitter=0.8,
        brightness=0.2, contrast=0.4, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, solarize=0.0,
        rotate=12.0, cutout=0.3,
    ),
}  # fmt: skip


class ViewsConfig(Part):
    """Multi-crop: `global_views` large crops and `local_views` small ones per image."""

    recipe: Literal["paper", "crop", "digits"] = "paper"  # TrainConfig takes `digits` for the data set digits
    global_views: int = Field(2, ge=1)  # large crops; they make the centre of the prediction loss
    local_views: int = Field(2, ge=0)  # small crops; 6 in the paper
    local_size: int | None = Field(None, ge=4)  # side of a local crop, pixels; None: 98/224 of the global, 8 at least
    global_scale: tuple[Probability, Probability] = (0.3, 1.0)  # area of a global crop, share of the image
    local_scale: tuple[Probability, Probability] = (0.05, 0.3)  # area of a local crop, share of the image
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # width / height of a crop
    flip: Probability = 0.5  # probability of a horizontal flip
    jitter: Probability = 0.8  # probability of colour jitter, with the four strengths below
    brightness: Probability = 0.4
    contrast: Probability = 0.4
    saturation: Probability = 0.2
    hue: float = Field(0.1, ge=0, le=0.5)  # turns of the colour wheel
    grey: Probability = 0.2  # probability of grey
    # one probability, or three: of the first global view, of the other global views, of the local views
    blur: Probability | tuple[Probability, Probability, Probability] = 0.5  # probability of a Gaussian blur
    solarize: Probability | tuple[Probability, Probability, Probability] = 0.2  # of inverting all values above one half
    rotate: float = Field(0.0, ge=0, le=180)  # largest rotation either way, degrees
    cutout: Probability = 0.0  # probability of one erased square, up to half the side

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("recipe", ""), str):
            return raw
        return {**VIEW_RECIPES.get(raw.get("recipe", "paper"), {}), **raw}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("global_scale", "local_scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be [low, high] with 0 < low ≤ high, not [{low}, {high}]")
        return self
