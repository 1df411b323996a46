"""Where a sweep's MLflow is, as the user gives it or the run kept it, and how it is reached."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.address import OPTION, VARIABLE, WITHHELD, absolute, same_place, shown, unservable, withhold
from harness.folder import Refused, environment_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def default_uri(folder: Path) -> str:
    """The store beside the sweeps of a directory: runs/mlflow.db. Absolute, as working directories differ."""
    return f"sqlite:///{folder.absolute().parent / 'mlflow.db'}"


def asked_for(option: str | None = None) -> str | None:
    """The store that the user names: by the option, else by MLflow's own variable. Raises Refused as `served` does."""
    given = option or os.environ.get(VARIABLE)
    return served(given) if given else None


def served(uri: str) -> str:
    """The address, from any working directory. Raises Refused where MLflow cannot serve it, up or down."""
    if wrong := unservable(uri):
        raise Refused(wrong)
    return absolute(uri)


def uri_of(folder: Path, given: str | None = None) -> str:
    """Where a sweep is mirrored: as given, else as in its run, else beside its folder.

    Raises Refused where the run's address is not kept, and has to be given again; or where MLflow cannot serve it.
    """
    known = given or _recorded(folder)
    if not known:
        return default_uri(folder)
    if given or WITHHELD not in known:
        return served(known)
    if (named := os.environ.get(VARIABLE)) and same_place(named, known):
        return served(named)
    raise Refused(
        f"{folder}: its MLflow is {known}, of which {WITHHELD} is not kept in the folder; give the address again, as "
        f"{OPTION} or in {VARIABLE}, or another one"
    )


def _recorded(folder: Path) -> str | None:
    """The address that the run was given, as it may be kept; None: the store beside its folder."""
    known = environment_of(folder).get("tracking_uri")
    return known if isinstance(known, str) else None


def made_up_for(folder: Path, uri: str) -> str:
    """What the user can do about an MLflow that lags."""
    if (address := shown(uri)) == (_recorded(folder) or default_uri(folder)) and WITHHELD not in address:
        return f"`harness sync {folder}` makes up for it"
    again = f"; write out what {WITHHELD} stands for" if WITHHELD in address else ""
    return f"`harness sync {folder} {OPTION} {address}` makes up for it{again}"


def unreachable(uri: str) -> str | None:
    """What is wrong with a server, found out within seconds; None where nothing is, or the store is a file."""
    if not uri.startswith(("http:", "https:")):
        return None
    from requests import RequestException, get

    try:
        status = get(f"{uri.rstrip('/')}/health", timeout=3.0).status_code
    except RequestException as error:
        return brief(error, uri)
    return f"its server answers {status}" if status >= 500 else None


def brief(error: Exception, uri: str) -> str:
    """In a line, and without what the address holds of the user's: MLflow's errors quote it."""
    return " ".join(withhold(f"{type(error).__name__}: {error}", uri).split())[:300]


def client_of(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it prints the address whole, at every run's end
    # we try again ourselves, at leisure; and what a slow server has done is not asked for twice
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # migrations of a new database, line by line
    return MlflowClient(tracking_uri=uri)


def search(client: MlflowClient, experiment: str, query: str) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = client.search_runs([experiment], query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
