"""What a stage is measured by beside its own figures: while it trains, where time allows, and once at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fitnets.data.module import EVAL_BATCH, Batch, DataModule
from fitnets.drawing import brightest, drawable
from fitnets.losses.objective import Outputs
from fitnets.models.layers import Tap, eval_mode
from fitnets.training import cost, pictures
from fitnets.training.figures import cka, of_predictions, shares

FIXED = 2000  # validation images on which figures are followed over time: always the first ones
COMPARED = 512  # of them, in the comparison of two layers: its cost grows with their square
PICTURED = 8


class Measurements:
    """Figures of a stage's networks on fixed validation images, by the names under which they are logged.

    `hint` is what the hint stage before has found, if there was one: which layers are compared. Networks are in eval
    mode meanwhile and nothing random is drawn: a training that is watched ends as one that is not.
    """

    def __init__(self, stage: Any, hint: Mapping[str, Any] | None):
        self.stage = stage
        self.data: DataModule = stage.inputs.data
        self.index = self.data.val_index[:FIXED]
        teacher, shape = stage.inputs.teacher, self.data.input_shape
        layers = compared_layers(stage, hint)
        guided = [layers[1]] if layers else []
        hints = [layers[0]] if layers else []
        self.student = Tap(stage.net, guided, shape, to_end=stage.classifies) if guided or stage.classifies else None
        self.teacher = Tap(teacher, hints, shape, to_end=stage.classifies) if teacher and self.student else None
        self._of_teacher: Outputs | None = None  # on the first batch; it does not change

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        if self.student is None:
            return {}
        first, *rest = self.index.split(COMPARED)
        batch = self.data.val_batch(first)
        with eval_mode(self.stage):
            outputs = Outputs(*self.student(batch.x))
            if self.teacher and self._of_teacher is None:
                self._of_teacher = Outputs(*self.teacher(batch.x))
            found = self._gradient_shares(outputs, batch) | self._similarity(outputs)
            if outputs.logits is not None and self.data.train_on == "train":  # else validation images are trained on
                more = [self.data.val_batch(index) for index in rest]
                logits = torch.cat([outputs.logits, *(self.stage.net(part.x) for part in more)])
                found |= _calibration(logits, torch.cat([batch.y, *(part.y for part in more)]))
        return found

    def _gradient_shares(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Each term's share of the gradient at the logits, its weight included."""
        objective = getattr(self.stage, "kd_loss", None)
        if objective is None or outputs.logits is None or self._of_teacher is None:
            return {}
        assert self._of_teacher.logits is not None
        leaf = outputs.logits.float().clone().requires_grad_()
        weights = self.stage.weights()
        with torch.enable_grad():
            terms = objective(Outputs(leaf), Outputs(self._of_teacher.logits.float()), batch)
            gradients = {
                name: torch.autograd.grad(weights.get(name, 1.0) * term, leaf, retain_graph=True)[0]
                for name, term in terms.items()
            }
        return {f"distill/gradient_share_{name}": share for name, share in shares(gradients).items()}

    def _similarity(self, outputs: Outputs) -> dict[str, float]:
        """Linear CKA of the hint and the guided layer, before any regressor."""
        if not outputs.features or self._of_teacher is None or len(outputs.features[0]) < 4:
            return {}
        return {"match/cka": cka(outputs.features[0], self._of_teacher.features[0])}


def _calibration(logits: Tensor, labels: Tensor) -> dict[str, float]:
    calibration, details = of_predictions(logits, labels)
    worst = min(share for share in details["per_class"] if share is not None)
    return {f"val/{name}": value for name, value in calibration.items()} | {"val/worst_class_accuracy": worst}


def compared_layers(stage: Any, hint: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The (first) hint and guided layer of a stage with a teacher; `hint` is what its hint stage found, if any."""
    found = stage.findings().get("hint") or hint or {}
    if stage.inputs.teacher is None or "hint_layer" not in found:
        return None
    return found["hint_layer"].split(", ")[0], found["guided_layer"].split(", ")[0]


def on_the_test_part(stage: Any, test: Mapping[str, float]) -> dict[str, Any]:
    """Calibration on the test part and its details, from the answers that testing has left."""
    if not stage.answered:  # it has not been tested
        return {}
    logits, labels, *_ = answers_on_test(stage)
    calibration, details = of_predictions(logits, labels)
    names = details["classes"] = list(stage.inputs.data.images.class_names)
    details["confused"] = [
        {"class": names[true], "answered": names[answer], "images": count}
        for true, answer, count in details["confused"]
    ]
    return {"test": dict(test) | calibration, "details": details}


def pictures_of(stage: Any, media: Path, details: Mapping[str, Any]) -> dict[str, Any]:
    """Draw what the stage predicts of the teacher's hint and what it answers on the test part, where it does."""
    data: DataModule = stage.inputs.data
    white = brightest(data.images.images)
    index = data.val_index[:PICTURED]
    with torch.no_grad(), eval_mode(stage):
        maps = stage.hint_maps(data.val_batch(index).x)
    if maps:
        media.mkdir(exist_ok=True)
        pictures.hint_maps(media / "hint_maps.png", data.images.images[index], white, *maps)
    if details:
        names, images = drawable(data.images.class_names), data.images.test_images
        pictures.of_predictions(media, pictures.Tested(images, white, names, *answers_on_test(stage)), details)
    return {}


@torch.no_grad()
def answers_on_test(stage: Any) -> list[Tensor]:
    """Logits, labels and, where there is a teacher, its logits on the test part, on the CPU: what testing has left.

    Where several processes have tested, each has a share of them only; then all are computed here.
    """
    data: DataModule = stage.inputs.data
    assert data.images is not None
    answered, total = stage.answered, len(data.images.test_labels)
    if sum(len(labels) for _, labels, *_ in answered) < total:
        teachers = [stage.teacher] if len(answered[0]) > 2 else []
        batches = [data.test_batch(index) for index in torch.arange(total).split(EVAL_BATCH)]
        with eval_mode(stage):
            answered = [(stage.net(b.x), b.y, *(teacher(b.x) for teacher in teachers)) for b in batches]
        stage.answered = answered  # asked again by the pictures
    logits, labels, *teacher_logits = (torch.cat(column).cpu() for column in zip(*answered, strict=True))
    return [logits.float(), labels, *(column.float() for column in teacher_logits)]


def costs(stage: Any, weights: Path, result: Mapping[str, Any]) -> dict[str, float]:
    """What the trained network costs beside its size, and what its training did. `result` is what is known so far.

    Latencies are of preprocessed images on the training device. The teacher's share is of the training's time, by the
    time of one batch; it is 0 where its answers are kept.
    """
    data, teacher = stage.inputs.data, stage.inputs.teacher
    updates, seconds = result["updates"], max(result["seconds"], 1e-3)
    found = {"checkpoint_mb": weights.stat().st_size / 1e6}
    for size in (1, 128):
        p50, p95 = cost.latency(stage.net, data.val_batch(_repeated(data.val_index, size)).x)
        found |= {f"latency_ms_p50_batch{size}": p50, f"latency_ms_p95_batch{size}": p95}
    if updates:
        found["images_per_s"] = updates * data.batch_size / seconds
    if teacher is not None:
        found["compression"] = cost.parameters(teacher) / result["params"]
    if updates and teacher is not None:
        found["teacher_share"] = 0.0
        if result["answers"] == "online":
            x = data.preprocessed(_repeated(data.train_index, data.batch_size))
            batch_ms, _ = cost.latency(stage.teacher, x)
            found["teacher_share"] = min(1.0, batch_ms / 1000 * updates / seconds)
    return found


def _repeated(index: Tensor, count: int) -> Tensor:
    return index[torch.arange(count) % len(index)]
