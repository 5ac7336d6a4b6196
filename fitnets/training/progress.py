"""What a person sees while stages train: a live bar in a terminal, plain lines elsewhere."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN = {  # figure -> how it is shown
    "val/hint_loss": "hint loss {:.4g}",
    "val/r2": "R2 {:.3f}",
    "distill/lambda": "lambda {:.2f}",
    "val/accuracy": "val accuracy {:.2%}",
    "match/agreement": "agreement {:.2%}",
}
LINE_SECONDS = 10.0  # between two lines of a stage where there is no terminal


def clock(seconds: float) -> str:
    """75 is 1:15, 3675 is 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class StageProgress(Callback):
    """Progress of one stage: epochs done, the figures that matter, images per second, time left."""

    def __init__(self, console: Console, label: str):
        self.console = console
        self.label = label
        self.figures = ""
        self.bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.shown = time.monotonic()
        self.start_step = trainer.global_step
        if trainer.current_epoch or trainer.global_step:
            self.console.print(f"{self.label}: resumes at epoch {trainer.current_epoch + 1}", highlight=False)
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("epochs, left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=trainer.max_epochs, figures="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self.shown < (0.2 if self.bar else LINE_SECONDS):
            return
        self.shown = now
        epochs = trainer.current_epoch + (batch_idx + 1) / max(1, int(trainer.num_training_batches))
        speed = (trainer.global_step - self.start_step) * len(batch.ids) * trainer.world_size / (now - self.started)
        figures = f"{self.figures}  {speed:,.0f} images/s"
        if self.bar:
            self.bar.update(self.task, completed=round(epochs, 1), figures=figures)
        else:
            updates = (trainer.max_epochs or 0) * int(trainer.num_training_batches)
            done = max(1, trainer.global_step - self.start_step)
            left = (now - self.started) * max(0, updates - trainer.global_step) / done
            text = f"{self.label}: epoch {epochs:.1f} of {trainer.max_epochs}  {figures}  {clock(left)} left"
            self.console.print(text, highlight=False, soft_wrap=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = trainer.callback_metrics
        self.figures = "  ".join(text.format(float(known[name])) for name, text in SHOWN.items() if name in known)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
