"""The trainer: learns, repeats bit for bit, resumes bit for bit, and looks at test once asked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lejepa import checkpoint
from lejepa.checkpoint import CheckpointError
from lejepa.config import TrainConfig
from lejepa.data import DataError
from lejepa.encoders import build_encoder, check_encoder
from lejepa.schedules import learning_rate
from lejepa.trainer import Diverged, EpochReport, Trainer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "method": {"name": "lejepa", "slices": 64},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 32, "dim": 16},
        "data": {"name": "digits", "size": 8, "limit": 300},
        "optimizer": {"lr": 2e-3},
        "probe": {"draws": 3},
        "epochs": 3,
        "batch_size": 64,
    }
    return TrainConfig.model_validate(base | changes)


VIT = {"name": "small_vit", "width": 64, "depth": 2, "patch": 4, "drop_path": 0.2}
IJEPA = {"name": "ijepa", "predictor_width": 32, "predictor_depth": 1, "min_keep": 1}
RUNS = {
    "lejepa": config(),
    "lejepa-averaged": config(average=0.9),
    "lejepa-teacher-predictor": config(method={"name": "lejepa", "slices": 64, "teacher": 0.9, "predictor": True}),
    "lejepa-sgd": config(optimizer={"name": "sgd", "lr": 1e-2, "clip": 1.0}),
    "vicreg": config(method={"name": "vicreg"}),
    "lejepa-bf16": config(precision="bf16"),
    "lejepa-vit-drop-path": config(encoder=VIT),
    "ijepa": config(method=IJEPA, encoder=VIT, data={"name": "digits", "size": 16, "limit": 300}),
}


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainer.method.state_dict().items()} | dict(trainer.probe.state_dict())


def assert_equal_runs(a: Trainer, b: Trainer) -> None:
    assert [r.metrics for r in a.reports] == [r.metrics for r in b.reports]
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("method", ["lejepa", "vicreg", "ijepa"])
def test_the_loss_falls_on_digits(method: str) -> None:
    changes: dict[str, Any] = {"method": {"name": method}, "epochs": 8, "optimizer": {"lr": 1e-2}}
    if method == "ijepa":
        changes |= {"method": IJEPA, "encoder": VIT, "data": {"name": "digits", "size": 16, "limit": 300}}
    reports = list(Trainer(config(**changes)))
    losses = [r.metrics["train/loss"] for r in reports]
    assert losses[-1] < 0.8 * losses[0]
    assert [r.epoch for r in reports] == [1, 2, 3, 4, 5, 6, 7, 8]
    expected = {"val/linear", "val/knn", "val/shot1", "val/online", "diag/std", "diag/collapsed", "diag/sigreg"}
    assert expected <= reports[-1].metrics.keys()


def test_the_logged_loss_is_the_weighted_sum_of_its_logged_parts() -> None:
    for report in Trainer(config(method={"name": "lejepa", "lamb": 0.3, "slices": 64})):
        m = report.metrics
        assert m["train/loss"] == pytest.approx(0.7 * m["train/pred"] + 0.3 * m["train/sigreg"], rel=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = Trainer(RUNS[name])
    assert len(list(whole)) == 3
    interrupted = Trainer(RUNS[name], tmp_path)
    next(iter(interrupted))
    torch.rand(7)  # another trial in the same process moves the global generator
    resumed = Trainer(RUNS[name], tmp_path)
    assert resumed.load()
    assert [r.epoch for r in resumed.reports] == [1]
    list(resumed)
    assert_equal_runs(resumed, whole)
    assert resumed.test() == whole.test()


def test_a_training_does_not_depend_on_what_ran_before_it() -> None:
    alone = Trainer(RUNS["lejepa-vit-drop-path"])
    list(alone)
    list(Trainer(config(seed=9, epochs=1)))
    after = Trainer(RUNS["lejepa-vit-drop-path"])
    list(after)
    assert_equal_runs(alone, after)


def test_seeds_differ() -> None:
    first, second = (next(iter(Trainer(config(seed=s)))) for s in (0, 1))
    assert first.metrics["train/loss"] != second.metrics["train/loss"]


def test_a_broken_last_checkpoint_gives_way_to_the_previous_one(tmp_path: Path) -> None:
    whole = Trainer(config(), tmp_path)
    list(whole)
    last = tmp_path / checkpoint.LAST
    last.write_bytes(last.read_bytes()[:-1000])
    resumed = Trainer(config(), tmp_path)
    assert resumed.load()
    assert "last.pt: truncated" in resumed.info["checkpoints_passed_over"][0]
    assert len(resumed.reports) == 2
    list(resumed)
    assert_equal_runs(resumed, whole)


def test_checkpoints_that_are_all_broken_are_reported(tmp_path: Path) -> None:
    next(iter(Trainer(config(), tmp_path)))
    last = tmp_path / checkpoint.LAST
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        Trainer(config(), tmp_path).load()


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    next(iter(Trainer(config(), tmp_path)))
    with pytest.raises(CheckpointError, match="another config"):
        Trainer(config(seed=1), tmp_path).load()


def test_a_checkpoint_of_other_layers_is_refused(tmp_path: Path) -> None:
    next(iter(Trainer(config(), tmp_path)))
    state = checkpoint.read(tmp_path / checkpoint.LAST)
    state["method"] = {f"old.{name}": value for name, value in state["method"].items()}
    checkpoint.write(tmp_path, state)
    with pytest.raises(CheckpointError, match="does not fit this code"):
        Trainer(config(), tmp_path).load()


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    (tmp_path / checkpoint.LAST).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(CheckpointError):
        Trainer(config(), tmp_path).load()
    assert not Path("pwned").exists()


def test_a_full_disk_keeps_the_checkpoint_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(config(), tmp_path)
    run = iter(trainer)
    next(run)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lejepa.atomic.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            next(run)
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoint.LAST]
    resumed = Trainer(config(), tmp_path)
    assert resumed.load()
    assert len(resumed.reports) == 1


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert not Trainer(config(), tmp_path).load()
    assert not Trainer(config()).load()


@pytest.mark.parametrize("name", ["random", "pixels"])
def test_floors_give_one_report_and_train_nothing(name: str) -> None:
    trainer = Trainer(config(method={"name": name}))
    before = weights(trainer)
    (report,) = list(trainer)
    assert report.epoch == 1
    assert not [m for m in report.metrics if m.startswith("train/")]
    assert all(torch.equal(before[k], v) for k, v in weights(trainer).items())
    assert 0 <= trainer.test()["test/shot1"] <= 100


def test_the_pixel_floor_evaluates_the_pixels() -> None:
    trainer = Trainer(config(method={"name": "pixels"}))
    assert trainer.method.embedding_dim == 64
    list(trainer)
    flat = trainer.multicrop.normalize(trainer.data.val.images).flatten(1)
    embeddings = trainer.evaluation.embed(trainer.data.val, trainer.method.encode)
    torch.testing.assert_close(embeddings, flat)


@pytest.mark.parametrize("name", ["random", "pixels", "lejepa"])
def test_the_last_two_layers_are_what_the_probes_read_when_asked(name: str) -> None:
    trainer = Trainer(config(method={"name": name}, epochs=1, probe={"on": "layers", "draws": 2, "lidar": 2}))
    (report,) = list(trainer)
    assert trainer.evaluation.features(trainer.data.val).x.shape[1] == (64 if name == "pixels" else 16 + 32)
    assert ("diag/lidar" in report.metrics) == (name == "lejepa")
    assert 0 <= trainer.test()["test/linear"] <= 100


def test_another_data_set_is_judged_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the same images again, but all of them, so that the numbers differ."""
    probe = {"transfer": ["digits"], "finetune": 1, "draws": 2}
    trainer = Trainer(config(epochs=1, probe=probe))
    (report,) = list(trainer)
    assert not [name for name in report.metrics if "digits" in name or "finetune" in name]
    found = trainer.test()
    assert {"test/linear", "test/digits/linear", "test/digits/shot1", "test/finetune"} <= found.keys()
    assert found["test/digits/linear"] != found["test/linear"]


def draw(root: Path, sizes: tuple[int, ...], seed: int = 0) -> None:
    """Folders of classes with so many images of noise each."""
    rng = np.random.default_rng(seed)
    for label, count in enumerate(sizes):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / str(label) / f"{i}.png")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_training_does_not_go_on_where_the_data_that_judge_it_at_the_end_are_others(shelf: Path) -> None:
    data = {"name": "pets", "size": 8}
    judged = config(data=data, batch_size=8, epochs=2, probe={"transfer": ["birds"], "draws": 2})
    draw(shelf / "pets", (20, 20))
    draw(shelf / "birds", (20, 20))
    next(iter(Trainer(judged, shelf / "run")))
    assert Trainer(judged, shelf / "run").load()
    draw(shelf / "birds", (20, 20), seed=1)
    with pytest.raises(CheckpointError, match="other data"):
        Trainer(judged, shelf / "run").load()


def test_two_images_are_enough_to_train_and_one_is_too_few_to_judge(shelf: Path) -> None:
    few = config(data={"name": "pets", "size": 8}, batch_size=2, epochs=1, probe={"draws": 1})
    draw(shelf / "pets", (3, 3))  # one each for test, val and train
    trainer = Trainer(few)
    assert len(trainer.data.train) == 2
    assert len(list(trainer)) == 1
    for i in (0, 1):
        (shelf / "pets" / "1" / f"{i}.png").unlink()
    with pytest.raises(DataError, match="val has one image"):
        Trainer(few)


def test_a_batch_too_small_for_the_statistic_is_refused_before_the_first_step() -> None:
    method = {"name": "lejepa", "slices": 64, "statistic": "shapiro_wilk"}
    with pytest.raises(ValueError, match="tests 4 images at least, and batch_size is 3"):
        Trainer(config(method=method, batch_size=3))


def test_a_dino_that_stays_at_ln_k_is_labelled_collapsed() -> None:
    """With a learning rate of nothing, student and teacher stay at their start, where every prototype is as likely."""
    method = {"name": "dino", "prototypes": 64, "student_temp": 10.0, "teacher_temp": [10.0, 10.0]}
    trainer = Trainer(config(method=method, epochs=2, optimizer={"lr": 1e-12}))
    *_, report = list(trainer)
    assert report.metrics["train/loss"] == pytest.approx(math.log(64), rel=1e-3)
    assert report.metrics["diag/collapsed"] == report.metrics["diag/collapsed_loss"] == 1
    assert report.metrics["diag/collapsed_rank"] == 0
    assert next(iter(Trainer(config(epochs=1)))).metrics["diag/collapsed_loss"] == 0


def test_views_may_be_smaller_than_the_images_that_are_evaluated() -> None:
    trainer = Trainer(config(data={"name": "digits", "size": 16, "limit": 300}, views={"global_size": 8}))
    sides = []
    trainer.method.encoder.register_forward_pre_hook(
        lambda _, x: sides.append((trainer.method.training, x[0].shape[-1]))
    )
    next(iter(trainer))
    assert set(sides) == {(True, 8), (False, 16)}  # local views of 8 px, too


def test_test_images_are_not_touched_before_they_are_asked_for() -> None:
    trainer = Trainer(config())
    trainer.data.test.images.fill_(0)
    trainer.data.test.labels.fill_(0)
    blind = list(trainer)
    assert [r.metrics for r in blind] == [r.metrics for r in Trainer(config())]


def test_training_labels_reach_the_probes_only() -> None:
    trainer, shuffled = Trainer(config(epochs=1)), Trainer(config(epochs=1))
    shuffled.data.train.labels.copy_(shuffled.data.train.labels.flip(0))
    (a,), (b,) = list(trainer), list(shuffled)
    assert a.metrics["train/loss"] == b.metrics["train/loss"]
    encoders = [t.method.state_dict() for t in (trainer, shuffled)]
    assert all(torch.equal(v, encoders[1][k]) for k, v in encoders[0].items())


def test_a_loss_that_is_not_finite_ends_as_diverged() -> None:
    with pytest.raises(Diverged, match="not finite") as caught:
        list(Trainer(config(optimizer={"lr": 1e30})))
    assert caught.value.epoch >= 1


def test_evaluations_come_every_so_many_epochs_and_at_the_end() -> None:
    reports = list(Trainer(config(epochs=5, probe={"every": 2, "draws": 2})))
    assert [r.epoch for r in reports if "val/linear" in r.metrics] == [2, 4, 5]
    assert all("train/loss" in r.metrics for r in reports)


def test_reports_are_saved_before_they_are_seen(tmp_path: Path) -> None:
    trainer = Trainer(config(), tmp_path)
    for report in trainer:
        other = Trainer(config(), tmp_path)
        other.load()
        assert other.reports[-1] == report
        assert isinstance(other.reports[-1], EpochReport)


def test_the_learning_rate_warms_up_and_ends_at_a_thousandth() -> None:
    c = config(epochs=10, optimizer={"lr": 0.5, "warmup": 2})
    rates = [learning_rate(step, 100, 10, c) for step in range(100)]
    assert rates[:20] == sorted(rates[:20])
    assert max(rates) == rates[20] == pytest.approx(0.5)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.5 / 1000)
    middle = 20 + (99 - 20) / 2
    assert (rates[math.floor(middle)] + rates[math.ceil(middle)]) / 2 == pytest.approx(0.5 * 1.001 / 2, rel=1e-3)


def test_biases_and_norms_are_not_decayed() -> None:
    trainer = Trainer(config())
    decayed, plain = trainer.optimizer.param_groups
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in plain["params"])
    next(iter(trainer))
    assert (decayed["weight_decay"], plain["weight_decay"]) == (5e-4, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(list(trainer.method.parameters()))


def test_an_epoch_tells_what_it_cost() -> None:
    trainer = Trainer(config(epochs=1))
    (report,) = list(trainer)
    assert report.timing["images_per_second"] == pytest.approx(4 * 64 / report.timing["train_seconds"])
    assert 0 <= report.timing["data_wait_share"] < 1
    assert report.timing["peak_memory_mb"] > 50
    assert report.timing["seconds"] > report.timing["train_seconds"]


def test_the_flops_of_an_image_are_those_of_its_views_three_times() -> None:
    """Forward, and backward to weights and inputs; a convolution or linear layer costs 2·inputs·outputs a position."""
    method = {"name": "lejepa", "slices": 1}  # SIGReg's own products come on top
    trainer = Trainer(config(method=method, views={"global_views": 3, "local_views": 0}))
    forward = 0.0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal forward
        fan_in = module.weight[0].numel()  # type: ignore[union-attr,index]
        forward += 2 * fan_in * out.numel()

    for module in [*trainer.method.encoder.modules(), *trainer.method.projector.modules()]:
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    image = trainer.multicrop.normalize(trainer.data.train.images[:1])
    trainer.method.eval()
    trainer.method.project(trainer.method.encode(image))
    # the images themselves get no gradient
    assert trainer.info["flops_per_image"] == pytest.approx(3 * 3 * forward, rel=0.1)


def test_counting_flops_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = next(iter(Trainer(config(encoder=VIT, epochs=1))))
    monkeypatch.setattr("lejepa.telemetry.flops_per_image", lambda *_: 0.0)
    assert next(iter(Trainer(config(encoder=VIT, epochs=1)))).metrics == counted.metrics


def test_every_step_is_announced() -> None:
    steps = []
    trainer = Trainer(config(epochs=2))
    trainer.on_step = lambda step, of: steps.append((step, of))
    list(trainer)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2


def test_a_batch_in_parts_trains_as_the_whole_batch() -> None:
    """The encoder sees a part at a time, and SIGReg and the projector's BatchNorm the batch."""
    vit = {"name": "small_vit", "width": 64, "depth": 1, "patch": 4}
    whole, parts = (Trainer(config(encoder=vit, accumulate=n, epochs=2)) for n in (1, 4))
    for a, b in zip(whole, parts, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-5)
        assert a.metrics["train/sigreg"] == pytest.approx(b.metrics["train/sigreg"], rel=1e-5)


def test_a_batch_in_parts_drops_the_same_units_forward_and_backward() -> None:
    vit = {"name": "small_vit", "width": 64, "depth": 2, "patch": 4, "drop_path": 0.5}
    trainer = Trainer(config(encoder=vit, accumulate=2, epochs=6, optimizer={"lr": 1e-2}))
    losses = [report.metrics["train/loss"] for report in trainer]
    assert losses[-1] < losses[0]


def test_parts_are_refused_where_the_encoder_normalises_by_the_batch() -> None:
    with pytest.raises(ValueError, match=r"small_resnet normalises by the batch.*accumulate"):
        Trainer(config(accumulate=2))


@pytest.mark.slow
def test_a_compiled_encoder_trains_as_a_plain_one(tmp_path: Path) -> None:
    """And its checkpoint is the plain one's, so that either goes on from the other's."""
    plain, compiled = Trainer(config()), Trainer(config(compile=True), tmp_path)
    for a, b in zip(plain, compiled, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-3)
    assert plain.method.state_dict().keys() == compiled.method.state_dict().keys()
    assert Trainer(config(compile=True), tmp_path).load()


def test_averaged_weights_are_what_is_evaluated() -> None:
    """One step of momentum min(0.9, 1/10) and one of 2/11, from the initial weights."""
    start = Trainer(config(average=0.9))
    initial = {k: v.clone() for k, v in start.method.state_dict().items()}
    trainer = Trainer(config(average=0.9, epochs=1, batch_size=128))
    seen = []
    trainer.on_step = lambda *_: seen.append({k: v.clone() for k, v in trainer.method.state_dict().items()})
    list(trainer)
    assert len(seen) == 2
    assert trainer.evaluation.method is not trainer.method
    for name, value in trainer.evaluation.method.state_dict().items():
        if value.is_floating_point():
            once = 0.1 * initial[name] + 0.9 * seen[0][name]
            torch.testing.assert_close(value, 2 / 11 * once + 9 / 11 * seen[1][name], msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    rate = {"adamw": 1e-2, "sgd": 0.05, "lars": 1.0}[optimizer]
    reports = list(Trainer(config(epochs=6, optimizer={"name": optimizer, "lr": rate})))
    assert reports[-1].metrics["train/loss"] < 0.9 * reports[0].metrics["train/loss"]


def test_a_clipped_gradient_is_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(config(epochs=1, optimizer={"clip": 1e-3, "name": "sgd", "lr": 1e-3}))
    norms = []
    step = trainer.optimizer.step

    def recording() -> None:
        norms.append(torch.stack([p.grad.norm() for p in trainer.method.parameters() if p.grad is not None]).norm())
        step()

    monkeypatch.setattr(trainer.optimizer, "step", recording)
    (report,) = list(trainer)
    assert all(float(norm) == pytest.approx(1e-3, rel=1e-3) for norm in norms)
    assert report.metrics["train/gradient_norm"] > 1e-2


def test_the_projection_is_what_the_probes_read_when_asked() -> None:
    a, b = (Trainer(config(epochs=1, probe={"on": on, "draws": 2})) for on in ("embedding", "projection"))
    (x,), (y,) = list(a), list(b)
    assert x.metrics["train/loss"] == y.metrics["train/loss"]
    assert a.evaluation.features(a.data.val).x.shape[1] == 32
    assert b.evaluation.features(b.data.val).x.shape[1] == 16
    assert x.metrics["val/linear"] != y.metrics["val/linear"]


def test_a_batch_larger_than_the_training_images_is_refused() -> None:
    with pytest.raises(DataError, match="batch_size 512 is more than the"):
        Trainer(config(batch_size=512))


def test_the_small_resnet_has_the_size_it_says() -> None:
    encoder, dim = build_encoder(TrainConfig(), channels=3)
    assert dim == 128
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(0.31e6, rel=0.02)


@pytest.mark.parametrize("name", ["small_resnet", "small_vit", "resnet10t", "vit_tiny_patch16_224"])
def test_encoders_take_every_view_size_they_are_given(name: str) -> None:
    small = config(encoder={"name": name}, data={"name": "digits", "size": 32}, views={"local_size": 16})
    check_encoder(small)
    encoder, dim = build_encoder(small, channels=1)
    assert [tuple(encoder.eval()(torch.zeros(2, 1, side, side)).shape) for side in (32, 16)] == [(2, dim)] * 2


def test_an_encoder_that_cannot_take_the_local_views_is_refused() -> None:
    mixer = config(encoder={"name": "mixer_s16_224"}, data={"name": "digits", "size": 32}, views={"local_size": 16})
    with pytest.raises(ValueError, match=r"cannot take 16 px images.*local_views to 0"):
        check_encoder(mixer)
