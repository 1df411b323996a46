"""How fast LeJEPA trains: images per second, against the loop people write today and against the encoder alone.

    python benchmarks/trainer.py [--data cifar10] [--batch 128] [--threads 2] [--workers 2] [--steps 10] [--rounds 5]
                                 [--device cuda] [--encoder small_resnet] [--width 32]

small_resnet, or another encoder, at 32 px, 2 global and 6 local views an image, views as in the paper. Rows:
`encoder`, forward and backward of the encoder alone on views that are there already (the speed of light); `encoder and
projector`, the same with the projector; `ours`, lejepa/trainer.py with everything that it does in an epoch but the
evaluation, with 1,024 slices, with 256, as the sweeps for a CPU have them, and with infinitely many; `plain loop`, what
people do: torchvision's v2 transforms image by image in DataLoader workers, SIGReg as the paper's package writes it;
`lightly`, where it is installed (extra `bench`): its transform in DataLoader workers and its loss. Precision, encoder,
batch and views are the same in every row. The rows take turns of `--steps` steps within one run; a row's loader is read
ahead while others run no more than its queue holds. Images per second are of the best turn. Measures, never asserts.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from machine import processor
from rich.console import Console
from rich.table import Table
from sigreg import official
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from views import MEAN, STD, transform

from lejepa.config import TrainConfig
from lejepa.data import Split
from lejepa.methods.base import encode_views
from lejepa.seeding import sample_keys
from lejepa.trainer import Trainer

Turn = Callable[[], None]
ENCODER, PLAIN = "encoder", "plain loop"


def config(chosen: argparse.Namespace, precision: str) -> TrainConfig:
    encoder = {"name": chosen.encoder} | ({"width": chosen.width} if chosen.width else {})
    return TrainConfig.model_validate({
        "data": {"name": chosen.data}, "views": {"global_views": 2, "local_views": 6}, "batch_size": chosen.batch,
        "encoder": encoder, "epochs": 100, "precision": precision, "threads": chosen.threads, "device": chosen.device,
        "method": {"name": "lejepa", "slices": 1024},
    })  # fmt: skip


class Network(nn.Module):
    """The encoder and projector of a config, with AdamW: what every row trains."""

    def __init__(self, c: TrainConfig) -> None:
        super().__init__()
        trainer = Trainer(c)
        self.method = trainer.method.train()
        self.optimizer = torch.optim.AdamW(self.method.parameters(), lr=1e-3)
        self.autocast, self.device = trainer._autocast, trainer.device

    def embed(self, views: list[Tensor]) -> Tensor:
        """Lists of (N, C, S, S), one per view → (V, N, D); views of one size in one pass."""
        views = [v.to(self.device) for v in views]
        sizes = sorted({v.shape[-1] for v in views}, reverse=True)
        with self.autocast():
            passes = [torch.stack([v for v in views if v.shape[-1] == size]) for size in sizes]
            channels_last = [p.flatten(0, 1).contiguous(memory_format=torch.channels_last) for p in passes]
            found = [
                self.method.encoder(x).unflatten(0, p.shape[:2]) for x, p in zip(channels_last, passes, strict=True)
            ]
            return torch.cat(found)

    def learn(self, views: list[Tensor], sigreg: Callable[[Tensor], Tensor], lamb: float = 0.05) -> None:
        embeddings = self.embed(views)
        with self.autocast():
            z = self.method.projector(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2]).float()
        loss = (1 - lamb) * (z[:2].mean(0) - z).square().mean() + lamb * sigreg(z)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class PerImage(Dataset[Any]):
    """The views of one image after the other, as a list."""

    def __init__(self, split: Split, make: Callable[[Tensor], list[Tensor]]) -> None:
        self.images, self.make = split.images, make

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.make(self.images[index])


def forever(loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


def loaded(split: Split, make: Callable[[Tensor], list[Tensor]], batch: int, workers: int) -> Iterator[list[Tensor]]:
    return forever(DataLoader(
        PerImage(split, make), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    ))  # fmt: skip


def torchvision_views(c: TrainConfig) -> Callable[[Tensor], list[Tensor]]:
    v, size = c.views, c.data.size
    blur, solarize = ((p, p, p) if isinstance(p, float) else p for p in (v.blur, v.solarize))
    makers = [transform(v, size, v.global_scale, blur[min(i, 1)], solarize[min(i, 1)]) for i in range(v.global_views)]
    makers += [transform(v, v.local_size or size, v.local_scale, blur[2], solarize[2])] * v.local_views
    return lambda image: [make(image) for make in makers]


def lightly_views(c: TrainConfig) -> Callable[[Tensor], list[Tensor]]:
    """DINO's multi-crop transform of lightly, with this config's crops; it starts from PIL images."""
    from lightly.transforms import DINOTransform
    from torchvision.transforms.functional import to_pil_image

    v = c.views
    make = DINOTransform(
        global_crop_size=c.data.size, global_crop_scale=v.global_scale, local_crop_size=v.local_size or c.data.size,
        local_crop_scale=v.local_scale, n_local_views=v.local_views, cj_bright=v.brightness, cj_contrast=v.contrast,
        cj_sat=v.saturation, cj_hue=v.hue, normalize={"mean": MEAN, "std": STD},
    )  # fmt: skip
    return lambda image: make(to_pil_image(image))


def rows(c: TrainConfig, steps: int, workers: int) -> dict[str, Turn]:
    trainer = Trainer(c)
    split = trainer.data.train
    batches = torch.randperm(len(split))[: steps * c.batch_size].split(c.batch_size)
    views = trainer.multicrop(split.images[batches[0]].to(c.device), sample_keys(0, 0, batches[0].to(c.device)))
    network = Network(c)

    def encoder_alone() -> None:
        for _ in range(steps):
            network.method.zero_grad(set_to_none=True)
            with network.autocast():
                embeddings = encode_views(network.method, views)
            embeddings.float().square().mean().backward()

    def with_projector() -> None:
        for _ in range(steps):
            network.method.zero_grad(set_to_none=True)
            with network.autocast():
                projections = network.method.projector(encode_views(network.method, views).flatten(0, 1))
            projections.float().square().mean().backward()

    def ours(slices: int | str) -> Turn:
        own = Trainer(c.model_copy(update={"method": c.method.model_copy(update={"slices": slices})}))
        own._order = lambda: list(batches)  # type: ignore[method-assign]
        own.steps_per_epoch = steps
        return lambda: own._train() and None

    def plain(make: Callable[[Tensor], list[Tensor]], sigreg: Callable[[Tensor], Tensor]) -> Turn:
        stream, loop = loaded(split, make, c.batch_size, workers), Network(c)

        def turn() -> None:
            for _ in range(steps):
                loop.learn(next(stream), sigreg)

        return turn

    found: dict[str, Turn] = {
        ENCODER: encoder_alone,
        "encoder and projector": with_projector,
        "ours, 1,024 slices": ours(1024),
        "ours, 256 slices": ours(256),
        "ours, exact slices": ours("exact"),
        PLAIN: plain(torchvision_views(c), official(c.method.slices, c.device)),
    }
    try:
        from lightly.loss import SIGReg as Lightly
    except ImportError:
        return found
    return found | {"lightly": plain(lightly_views(c), Lightly(num_vectors=c.method.slices).to(c.device))}


def measure(c: TrainConfig, steps: int, rounds: int, workers: int) -> Table:
    turns = rows(c, steps, workers)
    wait = torch.cuda.synchronize if c.device == "cuda" else lambda: None
    for turn in turns.values():
        turn()  # warm
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            wait()
            start = time.perf_counter()
            turn()
            wait()
            rates[name].append(steps * c.batch_size / (time.perf_counter() - start))
    best = {name: max(found) for name, found in rates.items()}
    title = (
        f"{c.encoder.name}, {c.data.name}, batch {c.batch_size}, {c.precision}, {c.threads} thread(s), {workers} "
        f"loader workers for the last rows, n = {rounds} turns of {steps} steps"
    )
    table = Table(title=title, title_justify="left")
    for column in ("", "images/s", "median", "× plain loop", "share of the encoder's"):
        table.add_column(column, justify="right" if column else "left")
    for name in sorted(best, key=best.__getitem__, reverse=True):
        table.add_row(
            name, f"{best[name]:.0f}", f"{statistics.median(rates[name]):.0f}", f"{best[name] / best[PLAIN]:.2f}",
            f"{best[name] / best[ENCODER]:.2f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="a data set under $LEJEPA_DATA")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--encoder", default="small_resnet")
    parser.add_argument("--width", type=int, help="of small_resnet or small_vit")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    chosen = parser.parse_args()
    console = Console(width=110)
    where = f"{torch.cuda.get_device_name()}, " if chosen.device == "cuda" else ""
    console.print(f"{where}{processor()}, {os.cpu_count()} cores, torch {torch.__version__}; rates of the best turn")
    for precision in chosen.precisions:
        console.print(measure(config(chosen, precision), chosen.steps, chosen.rounds, chosen.workers))


if __name__ == "__main__":
    main()
