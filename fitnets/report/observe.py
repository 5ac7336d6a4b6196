"""What a stage is measured by beside its own figures: while it trains, where time allows, and once at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fitnets import cost
from fitnets.data.module import EVAL_BATCH, Batch, DataModule
from fitnets.layers import eval_mode, watched
from fitnets.report import pictures
from fitnets.report.figures import cka, of_predictions, shares
from fitnets.stages.hint import HintModule
from fitnets.stages.kd import KDModule

FIXED = 2000  # validation images on which figures are followed over time: always the first ones
COMPARED = 512  # of them, in the comparison of two layers: its cost grows with their square
PICTURED = 8


class Observer:
    """Figures of a stage's networks on fixed validation images, by the names under which they are logged.

    `layers` are the teacher's hint and the student's guided layer where the stage knows both. Networks are in eval
    mode meanwhile and nothing random is drawn: a training that is watched ends as one that is not.
    """

    def __init__(self, module: Any, data: DataModule, layers: tuple[str, str] | None):
        self.module = module
        self.data = data
        self.layers = layers
        self.index = data.val_index[:FIXED]
        self._of_teacher: tuple[Tensor, Tensor | None] | None = None  # on the first batch; it does not change

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        first, *rest = self.index.split(COMPARED)
        batch = self.data.val_batch(first)
        with eval_mode(self.module):
            if isinstance(self.module, HintModule):
                return self._of_layers(self.module.guided(batch.x), batch)
            net = self.module.student if isinstance(self.module, KDModule) else self.module.net
            logits, guided = run_and_heard(net, self.layers and self.layers[1], batch.x)
            found = self._of_terms(logits, batch) | self._of_layers(guided, batch)
            if self.data.train_on == "train":  # else validation images are trained on
                more = [self.data.val_batch(index) for index in rest]
                labels = torch.cat([batch.y, *(part.y for part in more)])
                found |= self._of_answers(torch.cat([logits, *(net(part.x) for part in more)]), labels)
        return found

    def _teacher(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What the frozen teacher gives at its end, and at the hint layer."""
        if self._of_teacher is None:
            net = self.module.teacher.net
            at_the_end = isinstance(self.module, HintModule)  # there it is cut at the hint layer
            out, heard = run_and_heard(net, None if at_the_end else self.layers and self.layers[0], batch.x)
            self._of_teacher = out, out if at_the_end else heard
        return self._of_teacher

    def _of_answers(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        calibration, details = of_predictions(logits, labels)
        worst = min(share for share in details["per_class"] if share is not None)
        return {f"val/{name}": value for name, value in calibration.items()} | {"val/worst_class_accuracy": worst}

    def _of_terms(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """Each term's part of the gradient at the logits, its weight included."""
        if not isinstance(self.module, KDModule):
            return {}
        leaf = logits.float().clone().requires_grad_()
        with torch.enable_grad():
            terms = self.module.terms(leaf, self._teacher(batch)[0].float(), batch.y)
            weighted = {name: self.module.weights[name] * term for name, term in terms.items()}
            gradients = {name: torch.autograd.grad(term, leaf)[0] for name, term in weighted.items()}
        return {f"distill/gradient_share_{name}": share for name, share in shares(gradients).items()}

    def _of_layers(self, guided: Tensor | None, batch: Batch) -> dict[str, float]:
        """Linear CKA of the hint and the guided layer, before any regressor."""
        if guided is None or len(guided) < 4:
            return {}
        hint = self._teacher(batch)[1]
        assert hint is not None
        return {"match/cka": cka(guided, hint)}


def run_and_heard(net: nn.Module, layer: str | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The network's output and that of a layer inside, where one is named."""
    if layer is None:
        return net(x), None
    with watched(net, layer) as outputs:
        out = net.forward(x)  # not through __call__, which may be compiled and then passes over hooks
    return out, outputs[0]


def compared_layers(module: Any, hint: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The hint and the guided layer of a stage with a teacher; `hint` is what its hint stage found, if it has one."""
    facts = getattr(module, "facts", None) or hint or {}
    if getattr(module, "teacher", None) is None or "hint_layer" not in facts:
        return None
    return facts["hint_layer"], facts["guided_layer"]


def at_the_end(module: Any, data: DataModule, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Calibration on the test part and its details, from the answers that testing has left; the stage's pictures."""
    assert data.images is not None
    media, images = folder / "media", data.images
    scale = float(images.images[:256].max())  # white: digits have 16 levels
    if isinstance(module, HintModule):
        media.mkdir(exist_ok=True)
        index = data.val_index[:PICTURED]
        x = data.val_batch(index).x
        with torch.no_grad(), eval_mode(module):
            hints, predicted = module.teacher(x), module.regressor(module.guided(x))
        pictures.hint_maps(media / "hint_maps.png", images.images[index], scale, hints, predicted)
    if not getattr(module, "answered", None):  # it has not been tested
        return {}, {}
    logits, labels, *teacher = answers_on_test(module, data)
    calibration, details = of_predictions(logits, labels)
    details["classes"] = list(images.class_names)
    pictures.of_predictions(media, images.test_images, scale, images.class_names, [logits, labels, *teacher], details)
    return calibration, details


@torch.no_grad()
def answers_on_test(module: Any, data: DataModule) -> list[Tensor]:
    """Logits, labels and, where there is a teacher, its logits on the test part, on the CPU: what testing has left.

    Where several processes have tested, each has a part of them only; then all are computed here.
    """
    assert data.images is not None
    answered, total = module.answered, len(data.images.test_labels)
    if sum(len(labels) for _, labels, *_ in answered) < total:
        nets = [module.student, module.teacher] if isinstance(module, KDModule) else [module.net]
        with eval_mode(module):
            batches = [data.test_batch(index) for index in torch.arange(total).split(EVAL_BATCH)]
            answered = [(nets[0](b.x), b.y, *(net(b.x) for net in nets[1:])) for b in batches]
    logits, labels, *teacher = (torch.cat(part).cpu() for part in zip(*answered, strict=True))
    return [logits.float(), labels, *(part.float() for part in teacher)]


def costs(
    module: Any, net: nn.Module, data: DataModule, weights: Path, found: Mapping[str, Any], teacher_params: int | None
) -> dict[str, float]:
    """What the trained network costs beside its size, and what its training did. `found` is the stage's result.

    Latencies are of preprocessed images on the training device. The teacher's share is of the training's time, by the
    time of one batch; it is 0 where its answers are kept.
    """
    updates, seconds = found["updates"], max(found["seconds"], 1e-3)
    costs = {"checkpoint_mb": weights.stat().st_size / 1e6}
    for size in (1, 128):
        p50, p95 = cost.latency(net, data.val_batch(_some(data.val_index, size)).x)
        costs |= {f"latency_ms_p50_batch{size}": p50, f"latency_ms_p95_batch{size}": p95}
    if updates:
        costs["images_per_s"] = updates * data.batch_size / seconds
    if teacher_params:
        costs["compression"] = teacher_params / found["params"]
    if updates and getattr(module, "teacher", None) is not None:
        costs["teacher_share"] = 0.0
        if found["answers"] == "online":
            batch_ms, _ = cost.latency(module.teacher, data.preprocessed(_some(data.train_index, data.batch_size)))
            costs["teacher_share"] = min(1.0, batch_ms / 1000 * updates / seconds)
    return costs


def _some(index: Tensor, count: int) -> Tensor:
    return index[torch.arange(count) % len(index)]
