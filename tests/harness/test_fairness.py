"""What a report would refuse to compare is said before anything runs."""

from typing import Any

import pytest

from harness.fairness import unequal
from harness.plan import plan
from harness.spec import SweepSpec

VICREG = {"base": {"method": {"name": "vicreg"}}}
RATES = {"nuisance": {"optimizer.lr": {"grid": [1e-4, 1e-3, 1e-2]}}, "search": {"sampler": "grid"}}


def said(**keys: Any) -> list[str]:
    sweep = SweepSpec.model_validate({"name": "a", "base": {"epochs": 3}, **keys})
    return unequal(sweep, plan(sweep))


def test_an_arm_with_more_cells_searches_more_and_that_is_no_fair_comparison() -> None:
    lamb = {"scientific": {"method.lamb": {"grid": [0.01, 0.1]}}}
    (line,) = said(arms={"lejepa": lamb, "vicreg": VICREG}, **RATES)
    assert line.startswith("unequal tuning: lejepa searches 18 epochs and vicreg 9, and the report's validity gate")
    assert said(arms={"lejepa": {}, "vicreg": VICREG}, **RATES) == []
    assert said(arms={"lejepa": lamb, "vicreg": VICREG}) == []  # nothing is searched


def test_floors_are_given_nothing_and_owe_nothing() -> None:
    assert said(arms={"lejepa": {}, "random": {"base": {"method": {"name": "random"}}}}, **RATES) == []


@pytest.mark.parametrize(
    ("base", "says"),
    [({"epochs": 2}, "epochs is 3 in lejepa, 2 in other"), ({"batch_size": 64}, "batch_size is 128 in lejepa, 64"),
     ({"views": {"global_views": 4}}, "views.global_views is 2 in lejepa, 4 in other")],
)  # fmt: skip
def test_arms_that_train_another_amount_are_named_with_it(base: dict[str, Any], says: str) -> None:
    (line,) = said(arms={"lejepa": {}, "other": {"base": base}})
    assert says in line
    path = line.split()[2]
    (first, *_) = base.values()
    value = first["global_views"] if isinstance(first, dict) else first
    assert said(arms={"lejepa": {}, "other": {}}, scientific={path: {"grid": [value, 8]}}) == []  # varied by design


def test_only_arms_of_the_contrast_and_of_one_encoder_are_compared() -> None:
    wide = {"base": {"encoder": {"width": 64}, "epochs": 9}}
    assert said(arms={"lejepa": {}, "wide": wide}) == []
    arms = {"lejepa": {}, "vicreg": VICREG, "long": {"base": {"epochs": 9}}}
    assert len(said(arms=arms)) == 1
    assert said(arms=arms, contrast=["lejepa", "vicreg"]) == []


def test_a_method_that_masks_patches_sees_one_view_by_nature() -> None:
    ijepa = {"base": {"method": {"name": "ijepa"}, "views": {"global_views": 1}}}
    assert said(base={"epochs": 3, "encoder": {"name": "small_vit"}}, arms={"lejepa": {}, "ijepa": ijepa}) == []
