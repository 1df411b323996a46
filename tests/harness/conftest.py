"""Ray is started once for all tests; MLflow's schema is made once and copied."""

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests import tests.harness.fake, also under importlib mode


@pytest.fixture(scope="session")
def ray_on_two_cpus() -> Iterator[None]:
    import ray
    from ray import cloudpickle

    from tests.harness import fake

    cloudpickle.register_pickle_by_value(fake)  # workers do not have the tests on their path
    with pytest.MonkeyPatch.context() as surroundings:
        surroundings.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # Ray refuses to count more than it names
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=2,  # that nobody has: Ray counts them all the same
            labels={"made-for": "tests"},
            object_store_memory=80 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from harness.mlflow_store import client_of

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_of(f"sqlite:///{database}").search_experiments()  # the first use makes the schema, which takes seconds
    return database


@pytest.fixture
def runs(tmp_path: Path, migrated_database: Path) -> Path:
    """A directory for sweeps, with an empty MLflow store in its default place."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(migrated_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def mirrored() -> None:
    """Asked for by tests that look at MLflow, in modules that do `without_mlflow`."""


@pytest.fixture
def without_mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has tests of its own, and takes a second a sweep."""
    if "mirrored" not in request.fixturenames:
        from tests.harness.fake import NoMirror

        monkeypatch.setattr("harness.drive.MirrorThread", lambda *_: NoMirror())
