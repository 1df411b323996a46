"""The command line. Every command imports what it needs when it runs, so that `harness --help` is quick.

Exit codes are those of harness/endings.py.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.endings import fail, finish, follow, put, run_errors, show_comparison, show_report, user_errors, writing
from harness.keep import Keep

if TYPE_CHECKING:
    from harness.pool import Placement

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a question in a YAML file to a decision with its uncertainty, its cost and its evidence.",
)

SweepFile = Annotated[str, typer.Argument(help="A sweep file, or the name of a shipped one, such as quickstart.")]
SweepFolder = Annotated[Path, typer.Argument(help="The folder of a sweep: runs/NAME.")]
Profile = Annotated[str | None, typer.Option(help="Lay this profile of the file over it.")]
Override = Annotated[list[str] | None, typer.Option("--set", help="Override a key: base.epochs=5. Repeatable.")]
AcceptCodeChange = Annotated[
    bool, typer.Option("--accept-code-change", help="Go on although lejepa/ has changed since; it is recorded.")
]
Reuse = Annotated[
    list[Path] | None,
    typer.Option(help="A sweep's folder, or one that holds sweeps: what has finished there is not run again."),
]
Runs = Annotated[Path, typer.Option("--dir", help="Where sweeps have their folders.")]


class ExecutorName(StrEnum):
    ray = "ray"
    local = "local"


def main() -> None:
    app()


@app.command()
def plan(
    file: SweepFile,
    profile: Profile = None,
    overrides: Override = None,
    step_time: Annotated[float | None, typer.Option(min=0.0, help="Seconds that one epoch takes.")] = None,
    calibrated: Annotated[bool, typer.Option("--calibrate", help="Time some steps here, about ten seconds.")] = False,
    folder: Runs = Path("runs"),
) -> None:
    """Price a sweep before it runs: arms, cells, trials, epochs, time, disk."""
    from harness import costs
    from harness import plan as planning
    from harness.budget import images_per_epoch
    from harness.spec import load_sweep

    with user_errors(ValueError):
        spec = load_sweep(file, profile, overrides or ())
        planned, measured = planning.plan(spec), list[str]()
        if step_time is not None:
            speed: costs.Speed | None = costs.given(step_time)
        elif calibrated:
            from harness.calibrate import calibrate

            speed, measured = calibrate(spec, planned)
        else:
            speed = costs.from_ledger(folder / spec.name / "ledger.db", spec)
        put(planning.render(spec, planned, speed, measured, costs.disk(planned)))
    time = costs.time_of(spec, planned, speed) if speed else None
    images = costs.least_images(planned, images_per_epoch) if spec.budget and spec.budget.images else None
    if wrong := costs.exceeded(spec, planned, time, images):
        fail(2, f"{file}: {wrong}")


@app.command()
def run(
    file: SweepFile,
    profile: Profile = None,
    overrides: Override = None,
    executor: Annotated[ExecutorName, typer.Option(help="ray: in parallel; local: one after the other.")] = (
        ExecutorName.ray
    ),
    folder: Runs = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's store; sqlite in --dir where not given, nor in MLFLOW_TRACKING_URI.")
    ] = None,
    reuse: Reuse = None,
) -> None:
    """Run a sweep, then write its report and print the answer."""
    from harness.fairness import unequal
    from harness.folder import already_there
    from harness.plan import plan
    from harness.preflight import preflight
    from harness.run import run_sweep
    from harness.spec import load_sweep

    with user_errors():
        spec = load_sweep(file, profile, overrides or ())
        target = (folder / spec.name).absolute()
        if target.exists():
            fail(2, already_there(target))
        preflight(spec, file)
        for line in unequal(spec, plan(spec)):
            typer.secho(line, err=True)
    with run_errors():
        finish(run_sweep(spec, target, executor.value, tracking_uri, _command(), reuse=reuse or ()), tracking_uri)


@app.command()
def resume(
    folder: SweepFolder,
    executor: Annotated[ExecutorName | None, typer.Option(help="As in the run, where not given.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; as in the run, where not given.")] = None,
    accept_code_change: AcceptCodeChange = False,
    reuse: Reuse = None,
) -> None:
    """Go on with a sweep after whatever stopped it, then write its report and print the answer."""
    _resume(folder, executor, tracking_uri, accept_code_change, [], reuse or ())


@app.command()
def retry(
    folder: SweepFolder,
    keys: Annotated[list[str] | None, typer.Argument(help="Only these trials: their keys, or the beginnings.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Trials that failed; so without any option.")] = False,
    diverged: Annotated[bool, typer.Option("--diverged", help="Trials whose loss became NaN or infinite.")] = False,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; as in the run, where not given.")] = None,
    accept_code_change: AcceptCodeChange = False,
) -> None:
    """Try failed or diverged trials again, from their checkpoints: queue them, then resume the sweep."""
    from harness.resume import to_retry

    states = {state for state, asked in (("failed", failed or not diverged), ("diverged", diverged)) if asked}
    with run_errors():
        again = to_retry(folder, states, keys or ())
    if not again:
        fail(2, f"{folder}: no trial has {' or '.join(sorted(states))}; there is nothing to try again")
    _resume(folder, None, tracking_uri, accept_code_change, again)


@app.command()
def extend(
    folder: SweepFolder,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds in all, of every cell and confirmation.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Search trials in all, of every study.")] = None,
    overrides: Override = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="As in the run, where not given.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; as in the run, where not given.")] = None,
    accept_code_change: AcceptCodeChange = False,
    reuse: Reuse = None,
) -> None:
    """Add seeds, search trials or budget to a sweep in its own folder, and go on with it."""
    from harness.extend import extend_sweep

    named = executor.value if executor else None
    with run_errors():
        summary = extend_sweep(
            folder, overrides or (), seeds, trials, named, tracking_uri, _command(), accept_code_change,
            reuse=reuse or (),
        )  # fmt: skip
        finish(summary, tracking_uri)


@app.command()
def stop(
    folder: SweepFolder,
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds that it may take to end.")] = 300.0,
) -> None:
    """Stop a sweep that runs, as Ctrl-C does, and wait until it has; `harness resume` goes on with it."""
    from harness.stop import stop_sweep

    with run_errors():
        typer.echo(stop_sweep(folder, wait))


@app.command()
def sync(
    folder: SweepFolder,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; as in the run, where not given.")] = None,
) -> None:
    """Write into MLflow what it lacks of a sweep: everything in the ledger, once."""
    from harness import tracking

    with run_errors():
        address, missing = tracking.sync(folder, tracking_uri)
        typer.echo(f"{folder}: MLflow has everything, in {address}" + (f"; {missing}" if missing else ""))


@app.command()
def gc(
    folder: SweepFolder,
    keep: Annotated[Keep, typer.Option(help="The newest checkpoint: of every trial, of each cell's best, of none.")] = (
        Keep.last
    ),
) -> None:
    """Delete checkpoints of trials that have ended; those of pruned trials always."""
    from harness import checkpoints

    with run_errors():
        freed = checkpoints.collect(folder, keep)
    typer.echo(f"{folder}: {freed.bytes / 2**20:,.1f} MiB of checkpoints of {freed.trials} trials deleted")
    for link in freed.links:
        typer.secho(f"{link} is a link, and was left alone", err=True)


@app.command()
def status(
    folder: SweepFolder,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until the sweep ends.")] = False,
) -> None:
    """How a sweep stands, arm by arm. Only reads."""
    from harness import status as standing

    with user_errors():
        if watch:
            with suppress(KeyboardInterrupt):
                standing.watch(folder)
        else:
            put(standing.render(standing.read_status(folder)))


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="A trial's key, or its beginning.")],
    folder: Annotated[Path, typer.Option("--dir", help="A sweep's folder, or where sweeps have theirs.")] = Path(
        "runs"
    ),
) -> None:
    """Everything about one trial: why it ran, its config, epochs, events, and its traceback if it failed."""
    from harness import show as showing

    with user_errors():
        put(showing.render(*showing.find_trial(key, folder)))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER [OTHER]", help="A sweep's folder: runs/NAME.")],
    compare: Annotated[bool, typer.Option("--compare", help="Two sweeps side by side: OTHER against FOLDER.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write it; inside the sweep's folder if not given.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again while the sweep runs; Ctrl-C ends.")] = False,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between two builds, with --watch.")] = 15.0,
) -> None:
    """Build a sweep's report again from its ledger, follow a sweep that runs, or compare two sweeps."""
    from reports import LoadError

    if len(folders) != (2 if compare else 1):
        fail(2, f"{len(folders)} given: name one sweep, or two with --compare")
    if compare and watch:
        fail(2, "--watch follows one sweep; --compare reads two: give one of them")
    with user_errors(LoadError), writing(folders[0]):
        if compare:
            show_comparison(folders[0], folders[1], out)
        elif watch:
            follow(folders[0], out, every)
        else:
            show_report(folders[0], out)


@app.command()
def train(
    file: Annotated[str | None, typer.Argument(help="A TrainConfig by its parts, as under a sweep's `base`.")] = None,
    overrides: Override = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--checkpoints", help="Keep the state and the encoder here, and go on here.")
    ] = None,
) -> None:
    """One training without a sweep, as `python -m lejepa train`; prints every epoch."""
    from harness.spec import SpecError, load_training
    from lejepa.config_file import ConfigError, refuse_sweep

    with user_errors(ConfigError):
        try:
            config = load_training(file, overrides or ())
        except SpecError:
            if file is not None and Path(file).is_file():
                refuse_sweep(file)  # says more than that `base` is no key
            raise
    from lejepa.command import Ended
    from lejepa.command import train as train_one

    try:
        train_one(config, out)
    except Ended as ended:
        fail(ended.code, ended.message)


@app.command()
def export(
    key: Annotated[str, typer.Argument(help="A trial's key, or its beginning.")],
    out: Annotated[Path, typer.Argument(help="The folder for encoder.safetensors and encoder.json.")],
    folder: Annotated[Path, typer.Option("--dir", help="A sweep's folder, or where sweeps have theirs.")] = Path(
        "runs"
    ),
) -> None:
    """The encoder of a trial, from its last checkpoint, as files that plain timm loads."""
    from harness.export import export_trial
    from lejepa.checkpoint import CheckpointError
    from lejepa.data import DataError
    from lejepa.export import ExportError

    with user_errors(CheckpointError, DataError, ExportError, OSError):
        typer.echo(f"encoder: {export_trial(key, folder, out)}")


@app.command()
def doctor(
    folder: Runs = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's store; sqlite in --dir where not given, nor in MLFLOW_TRACKING_URI.")
    ] = None,
    with_ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Start Ray once, and end it.")] = True,
    cluster: Annotated[
        str | None, typer.Option(help="Look at the nodes of this Ray: auto, HOST:PORT, or a sweep file, and its pools.")
    ] = None,
) -> None:
    """Look at what a sweep will stand on: installation, GPUs, memory, disk, data, MLflow, Ray."""
    from harness.doctor import FAIL, examine, line

    with user_errors():
        where = None if cluster is None else _cluster(cluster)
    failed = 0
    for finding in examine(folder, tracking_uri, with_ray, where):
        failed += finding.result == FAIL
        put(line(finding))
    if failed:
        fail(1, f"{failed} of these will stop a sweep")


@app.command()
def schema(
    page: Annotated[
        Path | None, typer.Option("--markdown", help="Renew the keys on this page, docs/sweeps.md, instead.")
    ] = None,
) -> None:
    """The sweep file's JSON Schema, by which an editor completes and checks it."""
    from harness.reference import replaced
    from harness.schema import text

    if page is None:
        typer.echo(text())
        return
    with user_errors(OSError, ValueError):
        page.write_text(replaced(page.read_text(encoding="utf-8")), encoding="utf-8")


@app.command()
def ui(
    folder: Runs = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on the sweeps' store; Ctrl-C ends it."""
    store = (folder / "mlflow.db").absolute()
    if not store.is_file():
        fail(2, f"{store}: there is no MLflow store yet; `harness run` makes it")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--backend-store-uri", f"sqlite:///{store}"])


# -- what the commands share ------------------------------------------------------------------------------------------


def _resume(
    folder: Path,
    executor: ExecutorName | None,
    tracking_uri: str | None,
    accept_code_change: bool,
    again: Sequence[str],
    reuse: Sequence[Path] = (),
) -> None:
    from harness.resume import resume_sweep, why_over

    named = executor.value if executor else None
    with run_errors():
        summary = resume_sweep(folder, named, tracking_uri, _command(), accept_code_change, again, reuse=reuse)
        if summary is None:
            typer.echo(why_over(folder))
            return
        finish(summary, tracking_uri)


def _cluster(given: str) -> "Placement":
    """The Ray at an address, or that of a sweep file with the file's pools."""
    from harness.pool import Placement, placement
    from harness.pool_config import Cluster
    from harness.spec import load_sweep

    if given == "local":
        fail(2, "--cluster local: there are no nodes to look at; `harness doctor` tries a Ray of this machine")
    try:
        return Placement({}, address=Cluster(address=given).address)
    except ValueError:  # no address
        return placement(load_sweep(given))


def _command() -> list[str]:
    from harness.address import command_shown

    return command_shown(["harness", *sys.argv[1:]])
