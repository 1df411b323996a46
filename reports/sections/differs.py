"""What differs in how two sweeps were made: code, data, machine, sweep file, settings of the cells that both have."""

from collections.abc import Iterator, Mapping

from reports import provenance
from reports.content import Block, Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.pairing import Pairing
from reports.wording import name_text

_LONGEST = 160  # letters of a setting that is shown; the CSV has all


def section(pairing: Pairing, names: tuple[str, str]) -> Section:
    tables = [
        ("made", "Code, data, evaluation and machine", list(made(pairing))),
        ("sweep-file", "The sweep files, as resolved", list(_apart(_spec(pairing.a), _spec(pairing.b)))),
        ("settings", "Settings of the cells that both have, as trained", list(_settings(pairing))),
    ]
    said = [f"{caption[0].lower()}{caption[1:]}: {len(rows)}" for _, caption, rows in tables]
    blocks: list[Block] = [Prose([f"Lines that differ: {'; '.join(said)}."])]
    blocks += [_table(name, caption, names, rows) for name, caption, rows in tables if rows]
    return Section("differs", "What differs between them", blocks)


def _table(name: str, caption: str, names: tuple[str, str], rows: list[tuple[str, str, str]]) -> Table:
    shown = [[Value(what, name_text(what), strong=True), plain(a, short(a)), plain(b, short(b))] for what, a, b in rows]
    return Table(name, f"{caption}: what differs.", ["what", *names], shown)


def short(text: str) -> str:
    text = name_text(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _apart(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for what in dict.fromkeys([*a, *b]):
        if a.get(what, "—") != b.get(what, "—"):
            yield what, a.get(what, "—"), b.get(what, "—")


def made(pairing: Pairing) -> Iterator[tuple[str, str, str]]:
    yield from _apart(_surroundings(pairing.a), _surroundings(pairing.b))


def _surroundings(study: Study) -> dict[str, str]:
    environment, trials = study.sweep.environment, study.sweep.trials
    git = environment.get("git") or {}
    known = {
        "commit": f"{git.get('sha', 'unknown')}{' with uncommitted changes' if git.get('dirty') else ''}",
        "trainer's code": ", ".join(sorted({str(value)[:16] for value in trials["code"].dropna()})),
        "data": ", ".join(sorted({str(value)[:16] for value in trials["data"].dropna()})),
        "version of the evaluation": ", ".join(sorted({str(value) for value in trials["protocol"].dropna()})),
        "judged by": study.judge_text,
        "processor": f"{environment.get('cpu', 'unknown')}, {environment.get('cores', '?')} cores",
        "GPUs": ", ".join(str(gpu) for gpu in environment.get("gpus") or []) or "none",
        "executor": str(environment.get("executor", "unknown")),
        "python": str(environment.get("python", "unknown")),
        "platform": str(environment.get("platform", "unknown")),
    }
    return known | {f"package {name}": str(version) for name, version in (environment.get("packages") or {}).items()}


def _spec(study: Study) -> dict[str, str]:
    return dict(provenance.settings(study.sweep.spec))


def _settings(pairing: Pairing) -> Iterator[tuple[str, str, str]]:
    """Settings that differ within a shared cell; where not alike in all of them, in how many."""
    seen: dict[tuple[str, str, str], int] = {}
    for pair in pairing.pairs:
        if not pair.a.keys or not pair.b.keys:
            continue
        a, b = (dict(provenance.settings(study.sweep.configs[cell.keys[0]]))
                for study, cell in ((pairing.a, pair.a), (pairing.b, pair.b)))  # fmt: skip
        for line in _apart(a, b):
            seen[line] = seen.get(line, 0) + 1
    for (path, x, y), n in seen.items():
        where = "" if n == len(pairing.pairs) else f" (in {n} of {len(pairing.pairs)} cells)"
        yield f"{path}{where}", x, y
