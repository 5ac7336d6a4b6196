"""Load what a run left on disk. Needs torch only: no Hydra, no Lightning."""

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from fitnets.components import build
from fitnets.data.preprocess import Preprocess


def load_student(run_folder: str | Path) -> nn.Module:
    """The trained student of a finished backprop, hint or kd run, in eval mode, on the CPU.

    Takes images as the data set has them, uint8 (B, C, H, W), which it preprocesses as in training, or float
    tensors that are preprocessed already; gives logits (B, num_classes). After a hint run the layers above the
    guided one are still untrained. The regressor is not part of it.

    Raises FileNotFoundError where the folder holds no finished run, ValueError for a teacher's run. The weights
    are safetensors and can run no code; the network itself is built by the Python name in `config.yaml`.
    """
    return _load(Path(run_folder), "student")


def load_teacher(run_folder: str | Path) -> nn.Module:
    """The trained teacher of a finished teacher run; otherwise as `load_student`."""
    return _load(Path(run_folder), "teacher")


def _load(folder: Path, role: str) -> nn.Module:
    if not (folder / "result.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished run (no result.json); scripts/runs.py lists those that do")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if not (folder / f"{role}.safetensors").is_file():
        other = "teacher" if role == "student" else "student"
        stage = json.loads((folder / "result.json").read_text())["stage"]
        raise ValueError(f"{folder} is a {stage} run and holds no {role}; use fitnets.load_{other}")
    facts = config["data"]
    net = build_net(config[role]["net"], facts["input_shape"], facts["num_classes"])
    net.load_state_dict(load_file(folder / f"{role}.safetensors"), strict=True)
    preprocess = Preprocess(facts["preprocess"], load_file(folder / "preprocess.safetensors"), facts["scale"])

    def prepare(_net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        x = inputs[0]
        return None if x.is_floating_point() else (preprocess.to(x.device)(x),)

    net.register_forward_pre_hook(prepare)
    return net.eval()


def build_net(spec: dict[str, Any], input_shape: Any, num_classes: int) -> nn.Module:
    """A network from its config; every network component takes `input_shape` (C, H, W) and `num_classes`."""
    return build(spec, input_shape=tuple(input_shape), num_classes=num_classes)
