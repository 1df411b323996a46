"""The layers of the house: who may import whom, and what a quick command must not load."""

import subprocess
import sys

import pytest

FRAMEWORKS = {"ray", "optuna", "mlflow", "pandas", "harness", "reports"}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("lejepa.trainer, lejepa.methods, lejepa.variants, lejepa.gaussianity", FRAMEWORKS),
        ("reports", {"torch", "ray", "optuna", "mlflow", "lejepa"}),
        ("harness.ledger", {"torch", "ray", "optuna", "mlflow", "pandas", "pydantic", "yaml", "lejepa"}),
        ("harness.cli", {"torch", "ray", "optuna", "mlflow", "pandas"}),
        ("harness.plan, harness.status", {"torch", "ray", "mlflow", "pandas"}),
    ],
)
def test_a_package_does_not_load_what_its_layer_must_not_know(modules: str, forbidden: set[str]) -> None:
    code = f"import sys, {modules}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not forbidden & set(done.stdout.split())
