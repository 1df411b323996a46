"""The settings of the views, and the published recipes that fill in what a config leaves out."""

from typing import Any, Literal

from pydantic import Field, model_validator

from lejepa.part import Part, Probability, Ratios, Shares

_JITTER = dict(flip=0.5, jitter=0.8, grey=0.2, ratio=(3 / 4, 4 / 3), rotate=0.0, cutout=0.0)  # what most recipes share
_OFF = dict(jitter=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, solarize=0.0)
_STRONG = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
_MILD = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)

# What each recipe sets where the config leaves it out; none sets how many views there are. Where the source has no
# local crops, they have the scale of `paper` and the colours of the second view.
VIEW_RECIPES: dict[str, dict[str, Any]] = {
    # LeJEPA §6.1
    "paper": _JITTER | _MILD | dict(global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), blur=0.5, solarize=0.2),
    # LeJEPA's repository, MINIMAL.md: 4 equal views
    "minimal": _JITTER | _STRONG | dict(global_scale=(0.08, 1.0), local_scale=(0.05, 0.3), blur=0.5, solarize=0.2),
    # google-research/simclr, data_util.py at strength 1
    "simclr": _JITTER | _STRONG | dict(global_scale=(0.08, 1.0), local_scale=(0.05, 0.3), blur=0.5, solarize=0.0),
    # deepmind-research, byol/utils/augmentations.py; the scale is of its dataset.py
    "byol": _JITTER | _MILD | dict(
        global_scale=(0.08, 1.0), local_scale=(0.05, 0.3), blur=(1.0, 0.1, 0.1), solarize=(0.0, 0.2, 0.2)
    ),
    # facebookresearch/dino, main_dino.py
    "dino": _JITTER | _MILD | dict(
        global_scale=(0.4, 1.0), local_scale=(0.05, 0.4), blur=(1.0, 0.1, 0.5), solarize=(0.0, 0.2, 0.0)
    ),
    # SimSiam (arXiv 2011.10566) §3 without the blur, as its appendix D has it for CIFAR-10
    "cifar": _JITTER | dict(
        global_scale=(0.2, 1.0), local_scale=(0.05, 0.3), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
        blur=0.0, solarize=0.0,
    ),
    # I-JEPA: crops alone
    "crop": _JITTER | _OFF | dict(global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), flip=0.0),
    # small grey images where a flip or a strong crop changes the class; own choice
    "digits": _JITTER | _OFF | dict(
        global_scale=(0.6, 1.0), local_scale=(0.4, 0.8), ratio=(0.85, 1.18), flip=0.0, jitter=0.8, brightness=0.2,
        contrast=0.4, rotate=12.0, cutout=0.3,
    ),
}  # fmt: skip


class ViewsConfig(Part):
    """Multi-crop: `global_views` large crops and `local_views` small ones per image."""

    # TrainConfig takes `digits` for the data set digits
    recipe: Literal["paper", "minimal", "simclr", "byol", "dino", "cifar", "crop", "digits"] = "paper"
    global_views: int = Field(2, ge=1)  # large crops; they make the centre of the prediction loss
    local_views: int = Field(2, ge=0)  # small crops; 6 in the paper
    global_size: int | None = Field(None, ge=8)  # side of a global crop, pixels; None: data.size
    local_size: int | None = Field(None, ge=4)  # side of a local crop, pixels; None: 98/224 of the global, 8 at least
    global_scale: Shares = (0.3, 1.0)  # area of a global crop, share of the image
    local_scale: Shares = (0.05, 0.3)  # area of a local crop, share of the image
    ratio: Ratios = (3 / 4, 4 / 3)  # width / height of a crop
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
