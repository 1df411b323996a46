"""The reports that are kept are those of their ledgers, made by this code."""

import shutil
from pathlib import Path

import pytest

from reports import build

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("kept", sorted(path.parent.name for path in RESULTS.glob("*/ledger.db")))
def test_a_kept_report_is_what_its_ledger_says(tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("docs/results") / kept  # its commands name the folder as it is called from the repository's root
    folder.mkdir(parents=True)
    for name in ("ledger.db", "sweep.yaml", "environment.json"):
        shutil.copy(RESULTS / kept / name, folder)
    built = build(folder).markdown.read_text(encoding="utf-8")
    assert built == (RESULTS / kept / "report" / "report.md").read_text(encoding="utf-8"), (
        f"run: harness report docs/results/{kept}"
    )
