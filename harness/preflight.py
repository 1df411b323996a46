"""What can be found out before the first trial starts and not from the sweep file alone: data and encoders."""

from harness.budget import images_per_epoch
from harness.costs import exceeded, least_images
from harness.plan import plan
from harness.spec import SpecError, SweepSpec


def preflight(spec: SweepSpec, source: str) -> None:
    """Read every data set and build every encoder of the design once; count the images that its budget has to pay for.

    SpecError, which names the sweep file.
    """
    from lejepa.data import DataError, load
    from lejepa.encoders import check_encoder

    configs = [spec.config(cell, spec.seeds[0], point) for cell in spec.cells() for point in spec.corners(cell)]
    for config in {config.data: config for config in configs}.values():
        try:
            images = len(load(config.data).train)
        except DataError as error:
            raise SpecError(f"{source}: base.data: {error}") from None
        largest = max(other.batch_size for other in configs if other.data == config.data)
        if largest > images:
            raise SpecError(f"{source}: base.batch_size: {largest} is more than the {images} training images")
    for data in {data for config in configs for data in config.elsewhere.values()}:
        try:
            load(data)
        except DataError as error:
            raise SpecError(f"{source}: base.probe.transfer: {error}") from None
    for config in {(c.method.name, c.encoder, c.data.size, c.views): c for c in configs}.values():
        try:
            check_encoder(config)
        except ValueError as error:
            raise SpecError(f"{source}: base.encoder: {error}") from None
    if spec.budget and spec.budget.images:
        planned = plan(spec)
        if wrong := exceeded(spec, planned, None, least_images(planned, images_per_epoch)):
            raise SpecError(f"{source}: {wrong}")
