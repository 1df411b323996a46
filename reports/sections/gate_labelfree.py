"""The check of a selection without labels: whether it was worse than one by labels, as far as the evidence tells."""

from reports.evidence import Study
from reports.sections.gate_check import PASS, WARN, Check, unmeasured
from reports.sections.labelfree import choices
from reports.wording import count, metric_text, minus, name_text, with_interval


def selected_without_labels(study: Study) -> Check | None:
    """None where labels selected."""
    if not study.label_free:
        return None
    name = "Selected without labels, judged on test"
    said = f"{study.metric} selects, {metric_text(study.judge)} judges"
    if not any(len(cell.finished) for cell in study.cells):
        return unmeasured(name, "no trial has finished that could be selected or judged")
    if not study.judge.startswith("test/"):
        return Check(name, WARN, f"no trial has a test value: {said}")
    worse = [
        (one, one.regret)
        for one in choices(study)
        if one.judge == study.judge and one.regret is not None and one.regret.low is not None and one.regret.low > 0
    ]
    if not worse:
        return Check(name, PASS, said)
    costs = [
        f"{minus(with_interval(lost.mean, lost.low, lost.high, one.judge))} in {name_text(one.arm.name)} "
        f"(n = {count(lost.n, 'seed')})"
        for one, lost in worse
    ]
    keys = tuple(key for one, _ in worse for key in one.keys)
    return Check(name, WARN, f"{said}; labels would have chosen better by {'; '.join(costs)}", keys)
