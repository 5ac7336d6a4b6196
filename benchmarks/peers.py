"""torchdistill's training steps on one pair: `speed.py` runs this in `.venv-peers`, in turns with other work.

.venv-peers/bin/python benchmarks/peers.py STAGE NETS THREADS PIPE
STAGE is hint or kd, NETS {"teacher": spec, "student": spec} as JSON, PIPE a file number (see turns.py)

The networks are ours (they are plain torch), the loop, the hooks, the losses and the cutting of networks
(`sequential`) are its own. It leaves a teacher in training mode; here it is put into eval mode by hand.
"""

import json
import logging
import sys
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from turns import Steps, taking_turns

# torchvision's registry wheel does not import beside a CPU torch until its operators are declared.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torch.utils.data import Dataset, RandomSampler  # noqa: E402
from torchdistill.core.distillation import get_distillation_box  # noqa: E402
from torchdistill.models.registry import register_adaptation_module  # noqa: E402

from fitnets.load import build_net  # noqa: E402
from fitnets.models.layers import resolve_layer  # noqa: E402
from fitnets.models.regressors import plan_regressor  # noqa: E402

BATCH, STEPS = 128, 6
SHAPE = (3, 32, 32)
Config = dict[str, Any]


class Noise(Dataset):
    """Normalised random images, half of them mirrored, one by one as torch's loaders want them."""

    def __init__(self) -> None:
        self.x = torch.randn(STEPS * BATCH, *SHAPE)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple:
        x = self.x[index]
        return (x.flip(-1) if torch.rand(()) < 0.5 else x), index % 10


def chain(net: nn.Module, layer: str) -> list[str]:
    """torchdistill cuts a network by a list of its children; those up to `layer`."""
    names = [name for name, _ in net.named_children()]
    return names[: names.index(layer) + 1]


def hint(teacher: nn.Module, student: nn.Module) -> dict[str, Config]:
    """What its config says of a hint stage: both networks cut, a regressor after the student's half, their distance."""
    hint_layer, hint_shape = resolve_layer(teacher, "middle", SHAPE, "teacher", "")
    guided_layer, guided_shape = resolve_layer(student, "middle", SHAPE, "student", "")
    regressor = plan_regressor(guided_shape, hint_shape, "auto", "linear", 2)
    register_adaptation_module(regressor.build, key="regressor")
    output = {"module_path": ".", "io": "output"}
    wrapper = {"input": {**output, "is_from_teacher": False}, "target": {**output, "is_from_teacher": True}}
    return {
        "teacher": {"sequential": chain(teacher, hint_layer)},
        "student": {
            "sequential": [*chain(student, guided_layer), "+regressor"],
            "adaptations": {"regressor": {"key": "regressor", "kwargs": {}}},
        },
        "loss": {
            "criterion": {"key": "MSELoss", "kwargs": {"reduction": "sum"}},
            "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": wrapper},
        },
    }


def kd(teacher: nn.Module, student: nn.Module) -> dict[str, Config]:
    """What its config says of KD."""
    places = {f"{role}_module_path": "." for role in ("student", "teacher")}
    places |= {f"{role}_module_io": "output" for role in ("student", "teacher")}
    loss = {"criterion": {"key": "KDLoss", "kwargs": {**places, "temperature": 3.0, "alpha": 0.5}}}
    return {"teacher": {}, "student": {}, "loss": loss}


STAGES = {"hint": hint, "kd": kd}


def timed(stage: str, nets: dict[str, Config], steps: Steps) -> None:
    teacher, student = (build_net(nets[role], SHAPE, 10) for role in ("teacher", "student"))
    own = STAGES[stage](teacher, student)
    loader = {
        "dataset_id": "noise",
        "sampler": {"class_or_func": RandomSampler, "kwargs": {}},
        "kwargs": {"batch_size": BATCH, "num_workers": 0},
    }
    config = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "val_data_loader": loader,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False} | own["teacher"],
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True} | own["student"],
        "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-4}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"loss": own["loss"] | {"weight": 1.0}}}},
    }
    box = get_distillation_box(teacher, student, {"noise": Noise()}, config, torch.device("cpu"), None, False, 1.0)
    box.pre_epoch_process(epoch=0)
    box.teacher_model.eval()
    for number, (x, y, supplement) in enumerate(box.train_data_loader):
        steps.next(new_epoch=number in (0, 1, STEPS - 1))  # the first one warms up, the last one ends the count
        box.post_forward_process(loss=box.forward_process(x, y, supplement))


if __name__ == "__main__":
    logging.disable(logging.INFO)
    torch.set_num_threads(int(sys.argv[3]))
    torch.set_flush_denormal(True)
    taking_turns(partial(timed, sys.argv[1], json.loads(sys.argv[2])), Connection(int(sys.argv[4])))
