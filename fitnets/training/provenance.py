"""What a run's folder says of itself: the config that decided it, the versions and the hardware that made it."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from fitnets import __version__
from fitnets.data.module import DataModule
from fitnets.files import write
from fitnets.store import Run

PREPROCESS = "preprocess.safetensors"


def write_config(run: Run, data: DataModule, options: dict[str, Any], folder: Path) -> None:
    """config.yaml: what decided the result, what the data turned out to be, and where it was computed."""
    figures_by = {role: other.name for role, other in run.figures_by.items()}
    config = {
        "stage": run.stage,
        "title": run.title,
        "arm": {"name": run.arm.name, "title": run.arm.title},
        "trains": run.trains,
        "tested": run.tested,
        "for_score": run.for_score,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "parents": {role: parent.name for role, parent in run.parents.items()},
        **({"figures_by": figures_by} if figures_by else {}),
        **{key: value for key, value in run.spec.items() if key != "tested"},
        "data": {
            "input_shape": list(data.input_shape),
            "num_classes": data.num_classes,
            "preprocess": data.preprocess.kind,
            "scale": data.preprocess.scale,
            "sources": run.sources,
        },
        "trainer": options,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in data.preprocess.tensors.items()}
    write(folder / PREPROCESS, save(tensors))
    write(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def versions() -> dict[str, str]:
    packages = ("torch", "pytorch-lightning", "torchmetrics", "scikit-learn", "safetensors")
    ours = {"fitnets": __version__, "python": platform.python_version()}
    return ours | {name: version(name) for name in packages}


def hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads()}


def cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
