"""Tables of scale: what was measured, the laws through it, and, apart from both, what lies beyond."""

from collections.abc import Mapping, Sequence

from reports import scaling as sc
from reports import statistics as st
from reports.content import Table, Value, plain
from reports.evidence import Study
from reports.lack_of_fit import POWER, REJECTED, LackOfFit
from reports.power_law import EXPONENTS
from reports.scaling import Fit, Refusal
from reports.sections.enough_slices import three
from reports.sections.scaling_laws import UNTESTED, Fitted, lack_text, local_text, with_bounds, x_text
from reports.sections.scaling_lines import ERROR, LOSS, PARAMS, SAMPLES, Rung, has_error, others
from reports.wording import is_percent, minus, name_text, with_interval

_NOTHING = Value(None, "—", tone="muted")


def measured(study: Study, ladders: Mapping[str, Sequence[Rung]]) -> Table:
    """One row per arm and scale; nothing in it is predicted."""
    found = [(name, rung) for name, mine in ladders.items() for rung in sorted(mine, key=lambda r: r.flops or 0.0)]
    settings = any(others(rung) for _, rung in found)
    kinds = [ERROR, LOSS] if has_error(study) else [LOSS]
    columns = [
        "arm", "encoder", "images", "epochs", *(["settings"] if settings else []), f"{PARAMS} (M)",
        f"{SAMPLES} (thousand)", "training TFLOPs", "n", *(f"{_of(study, of)} [95 % interval]" for of in kinds), "",
    ]  # fmt: skip
    rows = []
    for name, rung in found:
        rows.append([
            Value(name, name_text(name), rung.cell.keys), plain(rung.encoder),
            plain(rung.limit, "all" if rung.limit is None else f"{rung.limit:,}"), plain(rung.epochs),
            *([plain(others(rung))] if settings else []), _scaled(rung.params, 1e-6), _scaled(rung.samples, 1e-3),
            _scaled(rung.flops, 1e-12), plain(len(rung.cell.finished)),
            *(_estimate(study, rung, of) for of in kinds), plain(rung.cell.losses),
        ])  # fmt: skip
    chosen = f" Where settings were compared, too, each scale shows the best {study.selected_on}." if settings else ""
    caption = (
        f"What was measured: {_of(study, ERROR)} on {study.judge_text}, and the last epoch's training loss, which is "
        f"another quantity in every method.{chosen}"
        if has_error(study)
        else f"What was measured: the last epoch's training loss, which is another quantity in every method.{chosen}"
    )
    return Table("scaling-measured", caption, columns, rows, provenance=True)


def _of(study: Study, of: str) -> str:
    if of == LOSS:
        return LOSS
    return "error, 100 − accuracy (%)" if is_percent(study.judge) and study.sign > 0 else f"error ({study.judge_text})"


def _scaled(x: float | None, scale: float) -> Value:
    return _NOTHING if x is None else Value(x * scale, three(x * scale))


def _estimate(study: Study, rung: Rung, of: str) -> Value:
    values = rung.values(of, study.sign)
    if not rung.cell.complete or len(values) < rung.cell.planned:
        return Value(None, "—", rung.cell.keys, tone="muted")
    estimate = st.mean_interval(values)
    if of == ERROR:
        shown = with_interval(estimate.mean, estimate.low, estimate.high, study.judge)
        return Value(estimate.mean, shown, rung.cell.keys)
    bounds = None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
    return Value(estimate.mean, with_bounds(estimate.mean, bounds), rung.cell.keys)


# -- laws -------------------------------------------------------------------------------------------------------------


def laws(fits: list[Fitted]) -> Table:
    columns = [
        "arm", "of", "against", "at", "scales", "from", "to", "law", "b [95 % interval]", "c [95 % interval]",
        "a [95 % interval]", "lack of fit", "left-out scales missed by (%)", "the largest missed by (%)", "",
    ]  # fmt: skip
    caption = (
        "Laws y = c + a·(x / x₁)^(−b), x₁ the smallest scale of the line, valid from the first to the last scale named "
        "here. Least squares of relative errors; b is sought from "
        f"{EXPONENTS[0]:g} to {EXPONENTS[1]:g}. Intervals hold other seeds under the same law: they do not say that it "
        "is the right one. Lack of fit does, what means miss the law by over the noise of seeds, F(degrees of freedom "
        f"of both): a law with p below {REJECTED:g} is none. So does what left-out scales are missed by: each is "
        "predicted from the others, and their root mean square stands here, with its sign for the largest, which the "
        "smaller ones predict."
    )
    return Table("scaling-laws", caption, columns, [_law_row(fitted) for fitted in fits], provenance=True)


def _law_row(fitted: Fitted) -> list[Value]:
    line, found = fitted.line, fitted.found
    head = [
        Value(line.arm, name_text(line.arm), line.keys), plain(fitted.of), plain(f"{line.measure}, {line.along}"),
        plain(line.at), plain(len(line.rungs)), *(plain(x, x_text(x, line.measure)) for x in (line.x[0], line.x[-1])),
    ]  # fmt: skip
    if isinstance(found, Refusal):
        misfit = fitted.misfit
        lack, why = _NOTHING if misfit is None else _lack(misfit.lack), found.reason
        if misfit is not None:
            why = f"{misfit.reason}. {local_text(line, misfit)}"
        return [*head, plain("none"), *[_NOTHING] * 3, lack, *[_NOTHING] * 2, plain(why)]
    parts = [_part(found, name) for name in "bca"]
    missed = [Value(100 * found.error, f"{100 * found.error:.1f}"), _percent(found.missed[-1])]
    form = plain("with offset" if found.offset else "without offset")
    return [*head, form, *parts, _lack(found.lack), *missed, plain(_remark(found))]


def _lack(lack: LackOfFit | None) -> Value:
    return Value(None, "not tested", tone="muted") if lack is None else Value(lack.p, lack_text(lack))


def _part(found: Fit, name: str) -> Value:
    value = float(getattr(found.law, name))
    if name == "c" and not found.offset:
        bounds = found.bounds["c"]
        nothing = found.identified or bounds is None
        return Value(None, "none" if nothing or bounds is None else f"none; at most {bounds[1]:.3g}")
    return Value(value, with_bounds(value, found.bounds[name]))


def _percent(share: float) -> Value:
    return Value(100 * float(share), minus(f"{100 * share:+.1f}"))


def _remark(found: Fit) -> str:
    untested = "" if found.lack else UNTESTED
    if found.identified:
        return untested
    mine, other = 100 * found.error, 100 * float((found.missed_other**2).mean() ** 0.5)
    taken = "one" if found.offset else "none"
    why = f"left-out scales are missed by {mine:.1f} %, else by {other:.1f} %"
    said = f"offset not identified: {taken} was taken, since {why}; a, b and band are of both forms together"
    return f"{said}; {untested}" if untested else said


# -- beyond -----------------------------------------------------------------------------------------------------------


def beyond(fits: list[Fitted]) -> Table | None:
    """What the laws say of scales that nobody trained, or why nothing; None without a law, rejected or not."""
    columns = [
        "arm", "of", "against", "at", "times the largest scale measured", "scale", "extrapolated [95 % interval]", "",
    ]  # fmt: skip
    rows = []
    for fitted in fits:
        line, found = fitted.line, fitted.beyond
        head = [
            Value(line.arm, name_text(line.arm), line.keys), plain(fitted.of),
            plain(f"{line.measure}, {line.along}"), plain(line.at),
        ]  # fmt: skip
        if isinstance(found, Refusal):
            rows.append([*head, *[_NOTHING] * 3, plain(f"not extrapolated: {found.reason}")])
        for point in found if isinstance(found, list) else []:
            shown = Value(point.y, with_bounds(point.y, (point.low, point.high)), line.keys)
            x = plain(point.x, x_text(point.x, line.measure))
            times = plain(point.x / line.x[-1], f"{point.x / line.x[-1]:.3g}")
            rows.append([*head, times, x, shown, plain(_unseen(fitted))])
    caption = (
        f"Extrapolations, at most {sc.REACH:g} times beyond the largest scale. Nothing in this table was measured; the "
        "intervals hold other seeds under the same law, and no law is known to go on. A misfit may be unseen where the "
        f"test of the lack of fit rejects it with a chance below {100 * POWER:.0f} %; beyond the range it grows."
    )
    return Table("scaling-beyond", caption, columns, rows, provenance=True) if rows else None


def _unseen(fitted: Fitted) -> str:
    if fitted.law is None or fitted.law.lack is None:
        return ""
    return f"a misfit of up to {100 * fitted.law.lack.unseen:.1f} % may be unseen"
