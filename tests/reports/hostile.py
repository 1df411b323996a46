"""Names that try to be markup, formulas, commands, or too much for a page."""

from pathlib import Path

from synthetic import SyntheticArm, flat, hill, lambda_cells, write_sweep

HOSTILE = (
    "<script>alert(1)</script>", "a \"quote\" & 'another' $x_1$ | `tick` *star*", "שלום עולם", "🦊👩‍🚀", "=cmd()",
    "_hidden",
    "n" * 64, r"\input{x} 100 % #1 ^ ~", "line\nbreak\u202eoverride",
)  # fmt: skip
READABLE = HOSTILE[:-1]  # shown as they are; the last has characters that are replaced


def hostile_sweep(folder: Path) -> Path:
    arms = {name: SyntheticArm(flat(60.0 + i), "vicreg") for i, name in enumerate(HOSTILE)}
    arms["<b>λ</b>"] = SyntheticArm(hill(), cells=lambda_cells())
    return write_sweep(folder, arms, contrast=(HOSTILE[0], HOSTILE[2]), question="Is <img src=x onerror=1> safe?")
