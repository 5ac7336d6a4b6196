"""What people do with a loaded student: it is a plain module that is copied, saved, scripted, exported, halved."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import fitnets
from fitnets.load import build_net
from fitnets.store import folder_of
from tests.conftest import composed
from tests.trained import pick


@pytest.fixture(scope="module")
def student(compared) -> nn.Module:
    config, runs_dir = compared
    return fitnets.load_student(folder_of(pick(config, "kd", "fitnet"), runs_dir))


X = torch.randint(0, 17, (2, 1, 8, 8), dtype=torch.uint8)


def reloaded(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # our own


@pytest.mark.parametrize(
    "made",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        reloaded,
        torch.jit.script,
        lambda net: torch.jit.trace(net, X),
        lambda net: torch.export.export(net, (X,)).module(),
        lambda net: lambda x: copy.deepcopy(net).half()(x).float(),
        lambda net: lambda x: copy.deepcopy(net).bfloat16()(x).float(),
        lambda net: lambda x: net(x=x),
        lambda net: lambda x: net(net.preprocess(x)),
    ],
    ids=["deepcopy", "pickle", "save", "script", "trace", "export", "half", "bfloat16", "keyword", "preprocessed"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_loaded_student_is_a_plain_module(student: nn.Module, made: Any) -> None:
    with torch.no_grad():
        expected = student(X)
        assert torch.allclose(made(student)(X), expected, atol=0.3, rtol=0.1)


def test_a_loaded_student_has_no_hook(student: nn.Module) -> None:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, name) for module in student.modules() for name in hooks)
    assert sum(p.requires_grad for p in student.parameters()) == len(list(student.net.parameters()))


def test_every_network_of_ours_can_be_scripted_and_exported() -> None:
    for name in ("thin_relu", "resnet20", "wrn_16_2", "mnist_fitnet", "fitnet1"):
        shape = (1, 28, 28) if "mnist" in name else (3, 32, 32)
        net, x = build_net(composed(f"student={name}")["student"]["net"], shape, 10).eval(), torch.rand(2, *shape)
        for made in (torch.jit.script(net), torch.export.export(net, (x,)).module()):
            assert torch.allclose(made(x), net(x), atol=1e-5), name
