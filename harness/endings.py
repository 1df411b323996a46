"""How a command ends: with its report and answer, or with one line that says what is wrong; and the exit code.

Exit codes: 0 done · 1 some trial failed, or the sweep had to stop · 2 the user's input is wrong, nothing was started ·
130 interrupted.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from harness.drive import RunSummary


def finish(summary: "RunSummary", tracking_uri: str | None) -> None:
    """The report, here and in MLflow, and an exit code that says how the sweep ended."""
    from harness.tracking import publish

    if summary.interrupted:
        raise typer.Exit(130)
    show_report(summary.folder, code=1)
    if told := publish(summary.folder, tracking_uri):
        typer.secho(told, err=True)
    if failed := summary.counts.get("failed"):
        where = summary.folder
        fail(1, f"{failed} trials failed: `harness status {where}`, then `harness show KEY --dir {where}`")


def show_report(folder: Path, out: Path | None = None, code: int = 2) -> None:
    from harness.ledger import Ledger, remedy
    from harness.losses import lost
    from reports import LoadError, build

    with writing(folder, code):
        try:
            built = build(folder, out)
        except LoadError as error:
            fail(code, str(error))
    with Ledger.read(folder / "ledger.db") as ledger:
        missing = lost(ledger)
    if missing:
        typer.secho(f"{folder}: rows of the ledger are lost: {'; '.join(missing)}; {remedy(folder)}", err=True)
    typer.echo(built.answer)
    typer.echo(f"report: {built.html}")


def show_comparison(first: Path, second: Path, out: Path | None) -> None:
    from reports import compare

    built = compare(first, second, out)
    typer.echo(built.answer)
    typer.echo(f"comparison: {built.html}")


def follow(folder: Path, out: Path | None, every: float) -> None:
    """A line per build; the answer when the sweep has ended, or its reader has seen enough."""
    import time

    from harness.lock import holder
    from reports import Report, watch

    def tell(built: Report) -> None:
        states = ", ".join(f"{n} {state}" for state, n in built.states.items())
        typer.echo(f"{time.strftime('%H:%M:%S')}  {states}: {built.strength}  {built.html}")

    try:
        built = watch(folder, out, every=every, driven=lambda: holder(folder) is not None, told=tell)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None  # before there was any report
    if {"waiting", "running"} & built.states.keys() and holder(folder) is None:
        typer.echo(f"nobody drives this sweep now; `harness resume {folder}` goes on with it")
    typer.echo(built.answer)
    typer.echo(f"report: {built.html}")


# -- what is wrong, in one line ----------------------------------------------------------------------------------------


@contextmanager
def run_errors() -> Iterator[None]:
    """What was refused ends with exit code 2, a sweep that had to stop with 1; each in one line."""
    from harness.folder import Refused, RunError
    from harness.ledger import LedgerError

    try:
        yield
    except (RunError, LedgerError) as error:
        fail(2 if isinstance(error, Refused) else 1, str(error))


@contextmanager
def writing(folder: Path, code: int = 2) -> Iterator[None]:
    """A report that cannot be written ends in one line."""
    try:
        yield
    except BrokenPipeError:  # of who reads what is printed
        raise
    except OSError as error:
        elsewhere = f"the ledger is as it was, and `harness report {folder} --out OTHER` writes it elsewhere"
        fail(code, f"{folder}: its report cannot be written: {error}; {elsewhere}")


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """Errors that are the user's to mend become one line and exit code 2."""
    from harness.ledger import LedgerError
    from harness.spec import SpecError

    kinds: tuple[type[Exception], ...] = (SpecError, LedgerError, *more)
    try:
        yield
    except kinds as error:
        fail(2, str(error))


def fail(code: int, message: str) -> NoReturn:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(code)


def put(renderable: object) -> None:
    from rich.console import Console

    # a pipe has no width to fold tables to
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(renderable)
