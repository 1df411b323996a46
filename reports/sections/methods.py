"""Arms side by side, within one encoder only. An arm stands for its cell that validation selected; test judges it."""

from reports import figures
from reports.content import Block, Figure, Heading, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Study, encoder_names
from reports.sections.design import colour_class
from reports.sections.factor import (
    difference_value,
    estimate_value,
    mean_value,
    raw_frame,
    seeds_text,
    y_label,
)
from reports.wording import amount, difference_unit, name_text, unit


def section(study: Study) -> Section | None:
    groups = [encoder for encoder in study.encoders if len(study.within(encoder)) > 1]
    if not groups:
        return None
    names = encoder_names(study)
    blocks: list[Block] = [Prose([
        "An arm with several cells is represented by the one with the best validation mean; test, which selected "
        "nothing, judges it, so the winner's luck on validation is not counted twice. Arms are compared within one "
        "encoder only."
    ])]  # fmt: skip
    for rank, encoder in enumerate(groups):
        if len(study.encoders) > 1:
            blocks.append(Heading(f"Encoder {names[encoder]}"))
        blocks += [_figure(study, encoder, rank), _table(study, encoder, rank, names[encoder])]
    alone = [arm for arm in study.arms if arm.encoder not in groups]
    if alone:
        said = ", ".join(f"{name_text(arm.name)} ({names[arm.encoder]})" for arm in alone)
        blocks.append(Prose([f"Alone in their encoder, and therefore compared with nothing: {said}."]))
    return Section("methods", "Arms side by side", blocks)


def _figure(study: Study, encoder: str, rank: int) -> Figure:
    arms = study.within(encoder)
    cells = [arm.selected for arm in arms if arm.selected is not None]
    rows = [
        figures.Row(
            _label(arm), study.colours[arm.name], arm.selected.judged.tolist() if arm.selected else [],
            arm.selected.estimate if arm.selected else None, arm.is_floor,
            arm.selected.count("diverged") if arm.selected else sum(cell.count("diverged") for cell in arm.cells),
        )
        for arm in arms
    ]  # fmt: skip
    said = [f"{name_text(c.arm)} {amount(c.judged.mean(), study.judge)}" for c in cells if len(c.finished)]
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} by arm"
    caption = f"{what}, {seeds_text(cells)}; small dots are seeds, bars 95 % intervals, hollow markers floors."
    text = figures.Text(f"methods-{rank}", caption, f"{what}. " + "; ".join(said), raw_frame(study, cells))
    return figures.dots(text, rows, y_label(study))


def _label(arm: Arm) -> str:
    return arm.name


def _table(study: Study, encoder: str, rank: int, encoder_name: str) -> Table:
    reference = study.reference(encoder)
    against = name_text(reference.name) if reference else "?"
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    columns = [
        "arm", "cell selected", "n", f"validation mean{of}", f"{study.judge_text} [95 % interval]{of}",
        f"{against} − arm [95 % interval]{points}", f"P({against} better)", "verdict",
    ]  # fmt: skip
    rows = [_row(study, arm, reference) for arm in study.within(encoder)]
    caption = (
        f"Arms with {encoder_name}. Differences are paired by seed; P counts all pairs of seeds, ties ½. Verdicts "
        "other than the primary contrast's are not corrected for their number."
    )
    return Table(f"methods-{rank}", caption, columns, rows, provenance=True)


def _row(study: Study, arm: Arm, reference: Arm | None) -> list[Value]:
    cell = arm.selected
    name = Value(
        arm.name, name_text(arm.name), cell.keys if cell else (), colour=colour_class(study, arm.name), strong=True
    )
    if cell is None:
        lost = ", ".join(dict.fromkeys(c.losses for c in arm.cells if c.losses)) or "no evidence"
        return [name, plain("", "—"), plain(0), *[Value(None, "—", tone="muted") for _ in range(4)], plain(lost)]
    contrast = None
    if reference is not None and reference.selected is not None and arm is not reference:
        contrast = study.compare(reference.selected, cell, reference.name, arm.name)
    remark = (
        "reference" if arm is reference else contrast.verdict if contrast and contrast.estimate else cell.losses or "—"
    )
    p = contrast.superiority if contrast else None
    return [
        name,
        plain(cell.text, cell.text or "—"),
        plain(len(cell.finished)),
        mean_value(cell.val, study.metric),
        estimate_value(cell.estimate, study.judge, cell),
        difference_value(contrast.estimate if contrast else None, study.judge, contrast.keys if contrast else ()),
        Value(None, "—", tone="muted") if p is None else plain(p, f"{p:.2f}"),
        plain(remark),
    ]
