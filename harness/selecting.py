"""What a trial is worth to stopping, search and selection: one number per epoch, by the sweep's metric.

A metric that needs no labels can be best where nothing was learned: a collapsed LeJEPA training of small λ has a very
low loss / λ^α. That a training has collapsed is itself seen without labels, so under such a metric it ranks last, as
does λ = 0, where loss / λ^α has no value.
"""

import math
from collections.abc import Mapping
from typing import Any

from harness.ledger import Ledger
from harness.search_config import Metric
from lejepa.config import TrainConfig

_EVALUATED = "diag/collapsed"  # in every evaluated epoch of what is trained


def worth(metric: Metric, metrics: Mapping[str, float], lamb: float) -> float | None:
    """The value of an epoch in the metric's direction; ±inf for one that ranks last, None where it was not measured.

    lamb: the trial's λ; 0 where its method has none.
    """
    if not metric.label_free:
        return metrics.get(metric.name)
    value = metrics.get(metric.name) if metric.alpha is None else _scaled(metric.alpha, metrics, lamb)
    return worst(metric) if value is not None and metrics.get(_EVALUATED) else value


def lambda_of(config: TrainConfig | Mapping[str, Any]) -> float:
    """λ of a trial's config, which may be as in the ledger; 0 where its method has none."""
    method = config["method"] if isinstance(config, Mapping) else config.method
    return float(method.get("lamb", 0.0) if isinstance(method, Mapping) else getattr(method, "lamb", 0.0))


def worst(metric: Metric) -> float:
    return -math.inf if metric.mode == "max" else math.inf


def _scaled(alpha: float, metrics: Mapping[str, float], lamb: float) -> float | None:
    """Training loss / λ^α (LeJEPA §4.4), in evaluated epochs only: elsewhere nobody knows whether it has collapsed."""
    if "train/loss" not in metrics or _EVALUATED not in metrics:
        return None
    return float(metrics["train/loss"] / lamb**alpha) if lamb > 0 else math.inf


def curve(ledger: Ledger, key: str, metric: Metric, config: TrainConfig | Mapping[str, Any]) -> dict[int, float]:
    """Epoch → worth, in the epochs in which the metric was measured."""
    lamb = lambda_of(config)
    found = {row.epoch: worth(metric, row.metrics, lamb) for row in ledger.epochs(key)}
    return {epoch: value for epoch, value in found.items() if value is not None}
