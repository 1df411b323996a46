"""What the views cost: against torchvision's v2 transforms image by image, and as a share of a training step.

    python benchmarks/views.py [--recipes paper cifar …] [--size 32] [--stored 32] [--batch 128] [--rounds 15]

2 global and 6 local views per image, one thread. Rows of the first table: `ours`; `torchvision`, the same operations
from torchvision.transforms.v2 on one uint8 tensor after the other, as a data loader's worker runs them. The second
table: a step of LeJEPA (forward, backward, AdamW) with small_resnet on the views that it has just been given, in
float32 and in bfloat16. Rows of a table are measured in turns within one run, in CPU time of the process, which other
load on the machine moves less than the clock; shares and ratios are of minima. Measures, never asserts.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from machine import processor
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

from lejepa.config import TrainConfig
from lejepa.methods import build_method
from lejepa.methods.base import Method
from lejepa.seeding import sample_keys
from lejepa.view_config import VIEW_RECIPES, ViewsConfig
from lejepa.views import Multicrop, Views

MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def train_config(recipe: str, size: int, precision: str = "fp32") -> TrainConfig:
    views = {"recipe": recipe, "global_views": 2, "local_views": 6}
    return TrainConfig.model_validate(
        {"data": {"name": "none", "size": size}, "views": views, "precision": precision, "device": "cpu"}
    )


def transform(c: ViewsConfig, size: int, scale: tuple[float, float], blur: float, solarize: float) -> v2.Compose:
    taps = 2 * max(1, round(size * 0.05)) + 1
    return v2.Compose([
        v2.RandomResizedCrop(size, scale, c.ratio, antialias=True),
        v2.RandomHorizontalFlip(c.flip),
        v2.RandomApply([v2.ColorJitter(c.brightness, c.contrast, c.saturation, c.hue)], c.jitter),
        v2.RandomGrayscale(c.grey),
        v2.RandomApply([v2.GaussianBlur(taps, (0.1, 2.0))], blur),
        v2.RandomSolarize(128, solarize),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip


def per_image(c: ViewsConfig, size: int) -> Callable[[Tensor], Views]:
    blur, solarize = ((p, p, p) if isinstance(p, float) else p for p in (c.blur, c.solarize))
    first, other = (transform(c, size, c.global_scale, blur[i], solarize[i]) for i in (0, 1))
    local = transform(c, c.local_size or size, c.local_scale, blur[2], solarize[2])

    def views(images: Tensor) -> Views:
        globals_ = [torch.stack([t(image) for image in images]) for t in [first] + [other] * (c.global_views - 1)]
        locals_ = [torch.stack([local(image) for image in images]) for _ in range(c.local_views)]
        return Views(torch.stack(globals_), torch.stack(locals_))

    return views


def seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def against_torchvision(recipe: str, size: int, images: Tensor, rounds: int) -> Table:
    c = train_config(recipe, size).views
    keys, multicrop = sample_keys(0, 0, torch.arange(len(images))), Multicrop(c, size, *map(torch.tensor, (MEAN, STD)))
    theirs = per_image(c, size)
    rows: dict[str, Callable[[], object]] = {
        "ours": lambda: multicrop(images, keys),
        "torchvision": lambda: theirs(images),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, step in rows.items():
            taken = seconds(step)
            times[name] += [taken] if turn else []
    count = len(images) * (c.global_views + c.local_views)
    table = Table(
        title=f"{recipe}: {len(images)} images of {images.shape[-1]} px → {c.global_views} × {size} px, "
        f"{c.local_views} × {c.local_size} px; n = {rounds}",
        title_justify="left",
    )
    for column in ("", "views/s", "median CPU ms", "minimum CPU ms", "× ours"):
        table.add_column(column, justify="right" if column else "left")
    for name, taken in times.items():
        best, middle = min(taken), statistics.median(taken)
        ratio = f"{best / min(times['ours']):.1f}"
        table.add_row(name, f"{count / best:,.0f}", f"{middle * 1e3:.1f}", f"{best * 1e3:.1f}", ratio)
    return table


def learn(method: Method, optimizer: torch.optim.Optimizer, views: Views, precision: str) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = method(views, 0)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def making_and_learning(config: TrainConfig, images: Tensor, rounds: int) -> tuple[float, float]:
    """The least CPU seconds of making the views and of the step on them."""
    method = build_method(config, 3).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(method.parameters())
    multicrop = Multicrop(method.views(), config.data.size, *map(torch.tensor, (MEAN, STD)))
    keys = sample_keys(0, 0, torch.arange(len(images)))
    making, learning = [], []
    for _ in range(rounds + 1):
        start = time.process_time()
        views = multicrop(images, keys)
        made = time.process_time()
        learn(method, optimizer, views, config.precision)
        making.append(made - start)
        learning.append(time.process_time() - made)
    return min(making[1:]), min(learning[1:])


def share_of_a_step(recipe: str, size: int, images: Tensor, rounds: int) -> Table:
    table = Table(title=f"{recipe}: share of a step, small_resnet; n = {rounds}", title_justify="left")
    for column in ("", "views CPU ms", "step CPU ms", "views / both %"):
        table.add_column(column, justify="right" if column else "left")
    for precision in ("fp32", "bf16"):
        made, learned = making_and_learning(train_config(recipe, size, precision), images, rounds)
        table.add_row(precision, f"{made * 1e3:.1f}", f"{learned * 1e3:.1f}", f"{100 * made / (made + learned):.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["paper", "cifar"], choices=[*VIEW_RECIPES])
    parser.add_argument("--size", type=int, default=32, help="side of a global view, pixels")
    parser.add_argument("--stored", type=int, help="side of the images, pixels; the size where left out")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    side = chosen.stored or chosen.size
    images = torch.randint(0, 256, (chosen.batch, 3, side, side), dtype=torch.uint8)
    console = Console(width=110)
    console.print(f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    for recipe in chosen.recipes:
        console.print(against_torchvision(recipe, chosen.size, images, chosen.rounds))
        console.print(share_of_a_step(recipe, chosen.size, images, chosen.rounds))


if __name__ == "__main__":
    main()
