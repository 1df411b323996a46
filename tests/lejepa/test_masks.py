"""Block-wise and random masks keep the invariants of their references; multi-block ones are in test_ijepa.py."""

import pytest
import torch

from lejepa.masked_config import Data2vecConfig
from lejepa.masks import blockwise, mask_generator, of_rank, random_patches
from lejepa.seeding import generator


@pytest.mark.parametrize("grid", [4, 8, 14])
def test_blockwise_masks_reach_their_share_and_never_pass_it(grid: int) -> None:
    wanted = round(grid**2 * 120 / 196)
    masked = torch.cat([blockwise(Data2vecConfig(), 64, grid, generator(seed)) for seed in range(5)])
    assert masked.shape == (320, grid**2)
    counts = masked.sum(1)
    assert counts.max() == wanted
    assert counts.min() > 0
    assert counts.float().mean() > 0.9 * wanted


def test_fourteen_by_fourteen_patches_have_120_masked() -> None:
    assert blockwise(Data2vecConfig(), 64, 14, generator(0)).sum(1).max() == 120


def test_a_mask_that_one_block_fills_is_a_rectangle_of_the_configs_aspect() -> None:
    options = Data2vecConfig(masked=0.1, min_block=0.1, aspect=(0.5, 2.0))
    alone = [mask for mask in blockwise(options, 400, 20, generator(0)).view(400, 20, 20) if _is_rectangle(mask)]
    ratios = [_height(mask) / _width(mask) for mask in alone]
    assert len(alone) > 150
    assert 0.4 < min(ratios) < 0.6  # sides are whole patches
    assert 1.7 < max(ratios) < 2.5


def test_blockwise_masks_come_in_blocks() -> None:
    at_random = torch.rand(64, 14, 14, generator=generator(0)).argsort(2) < 14 * 0.6
    blocks = blockwise(Data2vecConfig(), 64, 14, generator(0)).view(64, 14, 14)
    assert _edges(blocks) < 0.5 * _edges(at_random)


def test_every_patch_can_be_masked_and_can_be_seen() -> None:
    share = torch.cat([blockwise(Data2vecConfig(), 256, 8, generator(s)) for s in range(4)]).float().mean(0)
    assert share.min() > 0.1
    assert share.max() < 0.95


def test_random_masks_part_the_patches_in_two_and_keep_a_quarter() -> None:
    kept, masked = random_patches(0.75, 50, 14, generator(0))
    assert kept.shape == (50, 49)  # of 196
    assert masked.shape == (50, 147)
    for row in torch.cat([kept, masked], dim=1):
        assert sorted(row.tolist()) == list(range(196))
    assert len({tuple(row.sort().values.tolist()) for row in kept}) == 50


def test_every_patch_is_kept_equally_often() -> None:
    kept, _ = random_patches(0.75, 20_000, 4, generator(1))
    often = kept.flatten().bincount(minlength=16) / 20_000
    torch.testing.assert_close(often, torch.full((16,), 0.25), atol=0.02, rtol=0)


def test_masks_repeat_with_seed_and_step_and_with_nothing_else() -> None:
    first, again, later, other = (
        blockwise(Data2vecConfig(), 8, 8, mask_generator(*key)) for key in ((1, 5), (1, 5), (1, 6), (2, 5))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_ranks_take_the_parts_of_the_global_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = blockwise(Data2vecConfig(), 8, 4, generator(0))
    parts = []
    for rank in range(2):
        monkeypatch.setattr("lejepa.ranks.world_size", lambda: 2)
        monkeypatch.setattr("lejepa.ranks.rank", lambda rank=rank: rank)
        parts.append(of_rank(drawn, torch.empty(0)))
    assert [len(part) for part in parts] == [4, 4]
    assert torch.equal(torch.cat(parts), drawn)


def _is_rectangle(mask: torch.Tensor) -> bool:
    return int(mask.sum()) == _height(mask) * _width(mask)


def _height(mask: torch.Tensor) -> int:
    rows = mask.any(1).nonzero()
    return int(rows.max() - rows.min()) + 1


def _width(mask: torch.Tensor) -> int:
    return _height(mask.T)


def _edges(masks: torch.Tensor) -> int:
    return int((masks[:, 1:] != masks[:, :-1]).sum() + (masks[:, :, 1:] != masks[:, :, :-1]).sum())
