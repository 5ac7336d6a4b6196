"""The LightningDataModule: splits, which labels may be used, and batches as tensor operations."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from fitnets.data.augment import augmented, drawn
from fitnets.data.batch import UNLABELLED, Batch, EvalBatches, ShuffledBatches, per_epoch
from fitnets.data.images import Images, folds_of, gathered, of_each_class, split, with_noise, without
from fitnets.data.preprocess import fitted
from fitnets.seeds import derive

EVAL_BATCH = 512
STANDARDISE = {"_target_": "fitnets.data.preprocess.standardise", "fit_on": "train"}
NO_AUGMENTATION = {"flip": False, "crop": 0, "variants": None}


@dataclass(eq=False, repr=False)
class DataModule(LightningDataModule):
    """Images as uint8 tensors on the training device; batches are gathered, preprocessed and augmented there.

    A set that does not fit there stays where `setup` left it (`move_to(..., images=False)`): a decoded file is
    mapped, not read, so batches stream from disk; the rest is the same.

    Validation is the set's own, or split from train: by class, or the file's last images. `dataset.label_noise`
    replaces that share of the train part's labels (`given_labels`; `images.labels` stay clean).
    """

    dataset: Mapping[str, Any]
    split_seed: int
    batch_size: int
    seed: int
    _: KW_ONLY
    labels: int | str = "all"  # or none, or how many training labels, by class, the hard loss may use
    only_labelled: bool = False  # draw batches from those samples alone (plain backprop has no use for the others)
    first_epoch: int = 0
    # Fitted on the train part (`fit_on` all: validation too, as the original code does), never on test. After `setup`
    # this is the Preprocess.
    preprocess: Any = field(default_factory=STANDARDISE.copy)
    augment: Mapping[str, Any] = field(default_factory=NO_AUGMENTATION.copy)
    train_on: str = "train"  # all: validation images too (retraining with the epochs that validation found)
    sampler: Any = None  # orders the samples over `updates` (a fitnets.curriculum); else batches are plain shuffles
    held_out: tuple[int, int, int] | None = None  # (number, folds, repeat): that fold of the train part is left out
    updates_per_epoch: int | None = None  # cuts epochs shorter or longer than a pass over the images

    updates: int = field(default=0, init=False)  # of the whole stage; the pool grows by their number
    images: Images = field(default=None, init=False)  # type: ignore[assignment]
    device: torch.device = field(default=torch.device("cpu"), init=False)
    rank: int = field(default=0, init=False)  # which part of every batch is this process's, of `world` parts
    world: int = field(default=1, init=False)
    resumed: dict[str, Any] | None = field(default=None, init=False)  # where in the data order this start begins

    def __post_init__(self) -> None:
        super().__init__()

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "train_index"):  # Lightning asks again
            return
        self.images, self.train_index, self.val_index = split(self.dataset, self.split_seed)
        self.as_split = self.train_index, self.val_index
        self.input_shape = tuple(self.images.images.shape[1:])
        self.num_classes = len(self.images.class_names)
        everything = torch.arange(len(self.images.labels))
        self.given_labels = self.images.labels
        if noise := self.dataset.get("label_noise"):
            seed = derive(self.split_seed, "label_noise")
            self.given_labels = with_noise(self.given_labels, self.train_index, noise, self.num_classes, seed)
        if self.held_out:
            number, folds, repeat = self.held_out
            self.train_index = self.train_index[~torch.isin(self.train_index, self.fold(number, folds, repeat))]
        fit_index = everything if "all" in (self.train_on, self.preprocess["fit_on"]) else self.train_index
        if self.train_on == "all":
            self.train_index = everything

        self.labelled_index, self.visible_labels = self.train_index, self.given_labels.clone()
        if self.labels == "none":
            self.visible_labels.fill_(UNLABELLED)
        elif self.labels != "all":
            seed = derive(self.split_seed, "labels")
            chosen = of_each_class(self.given_labels[self.train_index], int(self.labels), seed)
            self.labelled_index = self.train_index[chosen]
            self.visible_labels[without(len(everything), self.labelled_index)] = UNLABELLED

        if count := self.augment.get("variants"):  # the same table for every run that shares a split
            generator = torch.Generator().manual_seed(derive(self.split_seed, "variants"))
            self.looks = drawn(len(everything) * count, self.augment["flip"], self.augment["crop"], generator)

        self.preprocess = fitted(self.preprocess, self.images.images, fit_index, self.dataset.get("cache_dir"))

    @property
    def batches_per_epoch(self) -> int:
        """Updates per epoch: the training images (labelled or not) over the batch size, the same in every arm."""
        return per_epoch(len(self.train_index), self.batch_size, self.updates_per_epoch)

    def fold(self, number: int, folds: int, repeat: int) -> Tensor:
        """Ids of the training samples in a fold; each repeat cuts the train part anew."""
        of_sample = folds_of(self.given_labels[self.train_index].cpu(), folds, derive(self.split_seed, "fold", repeat))
        return self.train_index[of_sample == number]

    def move_to(self, device: torch.device, images: bool = True) -> None:
        """Put the data where the network is, once; the images too, unless they are to stream."""
        self.device = device
        moved = {name: getattr(self.images, name).to(device) for name in ("labels", "test_labels")}
        if images:
            moved |= {name: getattr(self.images, name).to(device) for name in ("images", "test_images")}
        self.images = replace(self.images, **moved)
        self.visible_labels = self.visible_labels.to(device)
        self.preprocess = self.preprocess.to(device)

    def preprocessed(self, index: Tensor) -> Tensor:
        """Training-file images (B, C, H, W) as float32, preprocessed and not augmented."""
        return self.preprocess(gathered(self.images.images, index, self.device))

    def variant(self, index: Tensor, variant: Tensor) -> Tensor:
        """Training-file images (B, C, H, W) in the given countable variants (B,); -1 is the image as it is."""
        flip, crop = self.augment["flip"], self.augment["crop"]
        corner = torch.full_like(variant, crop)
        looks = torch.stack([corner, corner, variant == 1])
        if count := self.augment.get("variants"):
            looks = torch.where(variant < 0, looks, self.looks[:, (index * count + variant).clamp(min=0)])
        return augmented(self.preprocessed(index), looks, flip, crop)

    def train_batch(self, index: Tensor, t: int) -> Batch:
        """Batch t; what augmentation draws depends on the seed and t alone."""
        generator = torch.Generator().manual_seed(derive(self.seed, "augment", t))
        mine = slice(self.rank, None, self.world)  # drawn for the whole batch, so that ranks see what one process does
        ids = index[mine]
        if count := self.augment.get("variants"):
            variant = torch.randint(count, index.shape, generator=generator)[mine]
            return Batch(ids, self.variant(ids, variant), self.visible_labels[ids], variant)
        flip, crop = self.augment["flip"], self.augment["crop"]
        looks = drawn(len(index), flip, crop, generator)[:, mine]
        return Batch(ids, augmented(self.preprocessed(ids), looks, flip, crop), self.visible_labels[ids], looks[2])

    def val_batch(self, index: Tensor) -> Batch:
        labels = self.images.labels[index]
        if self.labels == "none":
            labels = torch.full_like(labels, UNLABELLED)
        return Batch(index, self.preprocessed(index), labels, torch.zeros_like(index))

    def test_batch(self, index: Tensor) -> Batch:
        x = self.preprocess(gathered(self.images.test_images, index, self.device))
        return Batch(index, x, self.images.test_labels[index], torch.zeros_like(index))

    def train_dataloader(self) -> ShuffledBatches:
        pool = self.labelled_index if self.only_labelled else self.train_index
        first = self.first_epoch * self.batches_per_epoch
        if self.sampler is None:
            size, count = self.batch_size, self.batches_per_epoch
            self.train_batches = ShuffledBatches(pool, size, count, self.seed, self.train_batch, first=first)
        else:
            self.train_batches = self.sampler.batches(self, pool, first)
        if self.resumed:
            self.train_batches.load_state_dict(self.resumed)
        return self.train_batches

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # it was made there

    def state_dict(self) -> dict[str, Any]:
        """The position in the data order. (Lightning restores a loader's own state in mid-epoch only.)"""
        return self.train_batches.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    def val_dataloader(self) -> EvalBatches:
        return EvalBatches(self.val_index, EVAL_BATCH, self.val_batch, self.rank, self.world)

    def test_dataloader(self) -> EvalBatches:
        index = torch.arange(len(self.images.test_labels))
        return EvalBatches(index, EVAL_BATCH, self.test_batch, self.rank, self.world)
