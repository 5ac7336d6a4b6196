"""What a trained stage must not be: of numbers that are not finite, or another network than its saved weights make."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fitnets.assemble import trained_net
from fitnets.ending import Diverged, StageError
from fitnets.models.layers import eval_mode
from fitnets.store import Run


def refuse_what_is_not_finite(stage: Any, kept: dict[str, float]) -> None:
    """Raises Diverged for what the last step has broken, after which no loss was computed."""
    for name, net in stage.nets.items():
        broken = [key for key, tensor in net.state_dict().items() if not tensor.isfinite().all()]
        if broken:
            raise Diverged(f"diverged: the weights of the {name} are not finite after the last step ({broken[0]})")
    for name, figure in kept.items():
        if name.startswith("val/") and not math.isfinite(figure):
            raise Diverged(f"diverged: its {name} is {figure}, over validation images")


@torch.no_grad()
def refuse_what_does_not_load(run: Run, folder: Path, stage: Any) -> None:
    """Raises StageError where the saved weights make another network than the one that was trained and tested."""
    data, net = stage.inputs.data, stage.net
    with torch.random.fork_rng(devices=[]), eval_mode(net):
        again = trained_net(run, folder, data).to(data.device)
        x = data.preprocessed(data.train_index[:16])
        ours, theirs, ours_again = net(x), again(x), net(x)
    close = partial(torch.allclose, rtol=1e-2, atol=1e-2 * float(ours.abs().max()), equal_nan=True)
    if close(ours, ours_again) and not close(ours, theirs):  # it is no network that draws at random
        loose = [name for name, _ in net.named_buffers() if name not in net.state_dict()]
        held = f"its buffers {', '.join(loose)}" if loose else "plain attributes of it"
        raise StageError(
            f"{run}: its saved weights make another network than the trained one: {held} change and are not in "
            "its state_dict. Type register_buffer(NAME, TENSOR), without persistent=False"
        )


def what_to_try(run: Run) -> str:
    key = "teacher.recipe.optimizer.lr" if run.trains == "teacher" else "optimizer.lr"
    lr = run.spec["recipe"]["optimizer"].get("lr")
    smaller = f"{key}={lr / 10:.2g}" if lr else f"a smaller {key}"
    return f"Nothing goes on from it. Type {smaller}, or look for a term that may divide by zero"
