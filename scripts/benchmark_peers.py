"""torchdistill's training steps on one pair: `benchmark.py` runs this in `.venv-peers`, in turns with other work.

.venv-peers/bin/python scripts/benchmark_peers.py STAGE NETS THREADS PIPE
STAGE is hint or kd, NETS {"teacher": spec, "student": spec} as JSON, PIPE a file number (see benchmark_turns.py)

The networks are ours (they are plain torch), the loop, the hooks, the losses and the cutting of networks
(`sequential`) are its own. It leaves a teacher in training mode; here it is put into eval mode by hand.
"""

import json
import logging
import sys
from functools import partial
from multiprocessing.connection import Connection

import torch
from benchmark_turns import Steps, taking_turns
from torch import nn

# torchvision's registry wheel does not import beside a CPU torch until its operators are declared.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torch.utils.data import Dataset, RandomSampler  # noqa: E402
from torchdistill.core.distillation import get_distillation_box  # noqa: E402
from torchdistill.models.registry import register_adaptation_module  # noqa: E402

from fitnets.layers import plan_regressor, resolve_layer  # noqa: E402
from fitnets.load import build_net  # noqa: E402

BATCH, STEPS = 128, 6
SHAPE = (3, 32, 32)


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


def timed(stage: str, nets: dict[str, dict], steps: Steps) -> None:
    teacher, student = (build_net(nets[role], SHAPE, 10) for role in ("teacher", "student"))
    teacher_config: dict = {"forward_proc": "forward_batch_only", "requires_grad": False}
    student_config: dict = {"forward_proc": "forward_batch_only", "requires_grad": True}
    output = {"module_path": ".", "io": "output"}
    if stage == "hint":
        (hint, hint_shape), (guided, guided_shape) = (
            resolve_layer(net, "middle", SHAPE, whose, "")
            for net, whose in ((teacher, "teacher"), (student, "student"))
        )
        regressor = plan_regressor(guided_shape, hint_shape, "auto", "linear", 2)
        register_adaptation_module(regressor.build, key="regressor")
        teacher_config["sequential"] = chain(teacher, hint)
        student_config["sequential"] = [*chain(student, guided), "+regressor"]
        student_config["adaptations"] = {"regressor": {"key": "regressor", "kwargs": {}}}
        wrapper = {"input": {**output, "is_from_teacher": False}, "target": {**output, "is_from_teacher": True}}
        loss = {
            "criterion": {"key": "MSELoss", "kwargs": {"reduction": "sum"}},
            "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": wrapper},
        }
    else:
        paths = {f"{who}_module_path": "." for who in ("student", "teacher")}
        paths |= {f"{who}_module_io": "output" for who in ("student", "teacher")}
        loss = {"criterion": {"key": "KDLoss", "kwargs": {**paths, "temperature": 3.0, "alpha": 0.5}}}
    loader = {
        "dataset_id": "noise",
        "sampler": {"class_or_func": RandomSampler, "kwargs": {}},
        "kwargs": {"batch_size": BATCH, "num_workers": 0},
    }
    config = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "val_data_loader": loader,
        "teacher": teacher_config,
        "student": student_config,
        "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-4}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"loss": {**loss, "weight": 1.0}}}},
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
