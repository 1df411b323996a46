"""The encoder of an export as an MLflow model: this file is stored with the model, and run when it is loaded.

Images (n, channels, size, size) float32 on [0, 1] → embeddings (n, D) float32. Weights are safetensors; nothing is
unpickled.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel

from lejepa.export import ABOUT, load

_BATCH = 256  # images at once


class Encoder(PythonModel):
    _skip_type_hint_validation = True  # the signature says more than hints could; else a warning at every sweep's end

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["encoder"])
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.encoder = load(folder)
        self.mean, self.std = (torch.tensor(about[name]).view(1, -1, 1, 1) for name in ("mean", "std"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        images = torch.from_numpy(np.ascontiguousarray(model_input, dtype=np.float32))
        with torch.inference_mode():
            parts = [self.encoder((part - self.mean) / self.std) for part in images.split(_BATCH)]
        return torch.cat(parts).float().numpy()


mlflow.models.set_model(Encoder())
