"""Which images are train, val and test, and which of train are kept: what the source gives, else fixed draws by class.

Without a test split, val is the test (as with ImageNet); without both, test is a fifth of the images, by class. A val
split not given is a share of train, by class. The draws are the same for all trials, seeds and machines.
"""

import numpy as np

from lejepa.config import DataConfig
from lejepa.decoding import DataError
from lejepa.image_cache import SPLITS

PROTOCOL = 2  # of splitting: part of the fingerprint


def rows_of(labels: np.ndarray, given: np.ndarray, config: DataConfig) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Rows of train, val and test, and in words how they came about.

    labels: (N,) class of each image. given: (N,) index into SPLITS. Of train something is said only where `limit` is
    no whole number of images of every class, and what is kept hangs on the rounding. Raises DataError where `limit` is
    less than the number of classes.
    """
    rows = {name: np.flatnonzero(given == code) for code, name in enumerate(SPLITS)}
    how = {"val": "as given", "test": "as given"}
    if len(rows["test"]) == 0:
        if len(rows["val"]):  # the ImageNet layout: its val is what is published as test
            rows["test"], rows["val"] = rows["val"], rows["test"]
            how["test"] = "the source's val"
        else:
            rows["train"], rows["test"] = _hold_out(rows["train"], labels, 0.2)
            how["test"] = "0.2 of the images, drawn by class"
    if len(rows["val"]) == 0:
        rows["train"], rows["val"] = _hold_out(rows["train"], labels, config.val_fraction)
        how["val"] = f"{config.val_fraction:g} of train, drawn by class"
    if config.limit is not None and config.limit < len(rows["train"]):
        members = _by_class(rows["train"], labels)
        sizes = np.array([len(of_class) for of_class in members])
        if config.limit < len(sizes):
            raise DataError(
                f"data set {config.name!r}: data.limit = {config.limit} is less than its {len(sizes)} classes, and "
                f"each needs a training image; raise it to {len(sizes)} or more"
            )
        if (config.limit * sizes % sizes.sum()).any():
            how["train"] = f"{config.limit} images, by largest remainders"
        rows["train"] = _drawn(members, apportion(config.limit, sizes))
    return rows, how


def apportion(total: int, sizes: np.ndarray) -> np.ndarray:
    """`total` in proportion to `sizes` (K,), by largest remainders, the first of equal ones; no less than 1 each.

    K <= total < sum of sizes.
    """
    few = np.zeros(len(sizes), bool)  # whose share is less than 1: they get 1, and the others share the rest
    while True:
        left, among = total - few.sum(), sizes[~few].sum()
        fewer = ~few & (left * sizes < among)
        if not fewer.any():
            break
        few |= fewer
    counts = np.where(few, 1, left * sizes // among)
    remainders = np.where(few, -1, left * sizes % among)
    counts[np.argsort(-remainders, kind="stable")[: total - counts.sum()]] += 1
    return counts


def _hold_out(rows: np.ndarray, labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out), each sorted; the same fraction of every class, at least one image where a class has two."""
    members = _by_class(rows, labels)
    out = _drawn(members, [max(round(fraction * len(m)), min(1, len(m) - 1), 0) for m in members])
    return np.setdiff1d(rows, out), out


def _by_class(rows: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    sorted_rows = rows[np.argsort(labels[rows], kind="stable")]
    return np.split(sorted_rows, np.flatnonzero(np.diff(labels[sorted_rows])) + 1)


def _drawn(members: list[np.ndarray], counts: np.ndarray | list[int]) -> np.ndarray:
    """So many rows of each class, sorted; fewer are a part of what more would be."""
    rng = np.random.default_rng(0)
    return np.sort(np.concatenate([rng.permutation(m)[:count] for m, count in zip(members, counts, strict=True)]))
