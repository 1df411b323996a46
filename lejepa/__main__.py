"""`python -m lejepa train CONFIG` and `python -m lejepa export CHECKPOINTS OUT`: docs/training.md.

Exit codes: 0 done · 1 the training had to stop, or a test score is missing · 2 the input is wrong · 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    code, message = _train(given) if given.command == "train" else _export(given)
    if message:
        rank = int(os.environ.get("RANK", 0))
        print(f"rank {rank}: {message}" if rank else message, file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lejepa", description="One training, without a sweep and without Ray.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train, or go on; under torchrun on several devices")
    train.add_argument("config", nargs="?", help="YAML of a TrainConfig's parts; none: the defaults, on digits")
    train.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a key; repeatable")
    train.add_argument("--out", type=Path, metavar="DIR", help="keep checkpoints and the encoder here, and go on here")
    export = commands.add_parser("export", help="write the encoder of a checkpoint for plain timm")
    export.add_argument("checkpoints", type=Path, help="the folder that --out named")
    export.add_argument("out", type=Path, help="where encoder.safetensors and encoder.json go")
    export.add_argument("--root", type=Path, help="where the data of an older checkpoint lie")
    return parser


def _train(given: argparse.Namespace) -> tuple[int, str]:
    from lejepa.config_file import ConfigError, read_config

    try:
        config = read_config(given.config, given.set)
    except ConfigError as error:
        return 2, str(error)
    from lejepa.command import Ended, train  # after what is wrong in the file: torch takes seconds

    try:
        train(config, given.out)
    except Ended as ended:
        return ended.code, ended.message
    return 0, ""


def _export(given: argparse.Namespace) -> tuple[int, str]:
    from lejepa.checkpoint import CheckpointError
    from lejepa.data import DataError
    from lejepa.export import ExportError, export

    try:
        print(f"encoder: {export(given.checkpoints, given.out, root=given.root)}")
    except (ExportError, CheckpointError, DataError, OSError) as error:
        return 2, str(error)
    return 0, ""


if __name__ == "__main__":
    sys.exit(main())
