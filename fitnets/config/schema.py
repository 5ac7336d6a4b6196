"""Every key of the config and what may stand there, laid out as in conf/. A key that ends in ? may be left out.

What may stand at a key is a Value, a group (a dict of keys), a tuple of both (either), or a function that looks at what
was given and says which. A group whose `_target_` is a Target is a component, with the options that its source takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from fitnets.config.wording import MISSING, value_at

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A type of pydantic's, and what a message says of it: {0} is the key, {1} an example to type."""

    kind: Any
    message: str
    example: Any = 1

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.kind, config=ConfigDict(strict=True, allow_inf_nan=False))


@dataclass(frozen=True)
class Target:
    """The `_target_` of a component, and which of its parameters nobody types."""

    handed: tuple[int, int] = (0, 0)  # the first ones, of a function and of a class
    handed_by_name: tuple[str, ...] = ()
    drops_null: bool = False  # an option that is null is not given to it: a recipe leaves out what another one has


def value(kind: Any, words: str, example: Any = 1, **bounds: Any) -> Value:
    return Value(Annotated[kind, Field(**bounds)], f"it must be {words}: type {{0}}={{1}}", example)


def null_or(other: Value, example: Any) -> Value:
    return Value(other.kind | None, other.message.replace("it must be", "it must be null or"), example)


# 1 equals True, and would be one of its choices
NO_NUMBER = BeforeValidator(lambda given: given if isinstance(given, bool | str) else None)


def one_of(*choices: str | bool) -> Value:
    listed = " | ".join(str(choice).lower() for choice in choices)
    return Value(Annotated[Literal.__getitem__(choices), NO_NUMBER], f"type {{0}}= one of: {listed}")


def each(form: Any, *names: str) -> Group:
    return dict.fromkeys(names, form)


ANY_KEY = "NAME"  # of a group whose keys are the user's
ANYTHING = Value(Any, "")
Word = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
Pair = Annotated[list[str | int], Field(min_length=2, max_length=2)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Order = Literal["iid", "random", "hard_to_easy", "easy_to_hard"]
NAME = value(Word, "a name", "NAME")
FILED = value(
    Word, "a name without / or \\, of at most 80 letters", "NAME", pattern=r"^[^/\\\x00-\x1f]+$", max_length=80
)
SWITCH = Value(bool, "type {0}= one of: true | false")
COUNT = value(int, "a whole number >= 1", ge=1)
WHOLE = value(Whole, "a whole number >= 0")
POSITIVE = value(float, "a number > 0", gt=0)
FROM_ZERO = value(float, "a number >= 0", ge=0)
SHARE = value(float, "a number from 0 to 1", ge=0, le=1)
PORTION = value(float, "a number > 0 and <= 1", gt=0, le=1)
BELOW_ONE = value(float, "a number >= 0 and < 1", 0.2, ge=0, lt=1)
BETWEEN = value(float, "a number > 0 and < 1", 0.2, gt=0, lt=1)
TEMPERATURE = replace(POSITIVE, example=3)
KEEP = one_of("last", "best")
NONLINEARITY = one_of("auto", "relu", "linear", "maxout")
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Literal["white", "black"] | Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]
Three = Annotated[list[Byte], Field(min_length=3, max_length=3)]
BACKGROUND = Value(Colour | Three, "it must be white, black, '#rrggbb' or three numbers from 0 to 255: type {0}=black")
Layer = Word | int
LAYERS = Value(
    Layer | Annotated[list[Layer], Field(min_length=1)],
    "type {0}= a module's name, early, middle or late, or a list of those",
)
PAIRS = value(list[Pair], "pairs of teacher's and student's layers", min_length=1)

NET = {"_target_": Target(handed_by_name=("input_shape", "num_classes"))}
FILLING = {"_target_": Target(handed=(1, 1))}  # of a network's weights
OPTIMIZER = {"_target_": Target(handed=(1, 1), drops_null=True), "lr?": replace(POSITIVE, example=0.002)}
SCHEDULE = {"_target_": Target(handed=(2, 2))}  # the epoch and the epochs
OBJECTIVE = {
    "_target_": Target(handed=(3, 1)),  # student, teacher and batch; a context
    "weights?": {ANY_KEY: (value(float, "a number >= 0 or a schedule", ge=0), SCHEDULE)},
}
REGRESSOR = {"kind": one_of("auto", "strided", "fc"), "nonlinearity": NONLINEARITY}
AUGMENTATION = {"flip": SWITCH, "crop": WHOLE}
RECIPE = {
    "optimizer": OPTIMIZER,
    "lr_schedule": one_of("cosine", "linear", "exponential", "steps", "constant"),
    "lr_end?": replace(SHARE, example=0),
    "conv_lr_scale?": POSITIVE,
    "momentum?": (
        Value(None, "it must be null or have numbers: type {0}.end=0.7 and {0}.fraction=0.5"),
        {"end": value(float, "a number"), "fraction": replace(POSITIVE, example=0.5)},
    ),
    "max_norm?": SWITCH,
    "batch_size": COUNT,
    "keep": KEEP,
}
TEACHER_RECIPE = RECIPE | {"epochs": COUNT, "augment": AUGMENTATION}
OPTIONS: dict[str, Group] = {  # what options of our own components may hold, by how their `_target_` begins
    "fitnets.stages.optimizers.": {},
    "fitnets.data.": {
        "test_fraction": BETWEEN,
        "size": null_or(COUNT, 32),
        "test_split": null_or(NAME, "validation"),
        "background": BACKGROUND,
        **each(null_or(NAME, "NAME"), "label_column", "image_column", "config"),
    },
    "fitnets.losses.": {"temperature": TEMPERATURE, "power": POSITIVE},
    "fitnets.losses.schedules.": {
        **each(FROM_ZERO, "start", "end"),
        **each(value(float, "a number >= 1", ge=1), "begin", "saturate"),
        "fraction": PORTION,
        "of_epochs": null_or(POSITIVE, 288),
    },
    "fitnets.losses.logits.": {"student_temperature": POSITIVE, "warmup": SHARE, **each(FROM_ZERO, "alpha", "beta")},
    "fitnets.losses.logits.Hinton": {"alpha": SHARE},
    "fitnets.losses.features.": {"regressor": REGRESSOR, "reduction": one_of("example", "mean", "code")},
    "fitnets.losses.contrastive.": {"features": COUNT, "negatives": COUNT, "momentum": BELOW_ONE, "same_class": SWITCH},
    "fitnets.curriculum.scores.": {
        **each(COUNT, "epochs", "repeats", "components"),
        "seed": WHOLE,
        "folds": value(int, "a whole number >= 2", 4, ge=2),
        "regularisation": POSITIVE,
        "features": one_of("pixels", "teacher"),
        "higher_is": one_of("harder", "easier"),
    },
    "fitnets.curriculum.pacings.": {
        **each(replace(PORTION, example=0.1), "start", "every"),
        **each(POSITIVE, "full_at", "power", "epochs"),
        "increase": value(float, "a number > 1", 1.9, gt=1),
        "thresholds": value(list[Annotated[float, Field(ge=0)]], "numbers >= 0", "[0.1,0.3]"),
    },
}
NEEDS = one_of("nothing", "teacher", "student", "history", "folds", "hint", "current_loss")
SCORE = {"_target_": Target(handed=(1, 1)), "name": NAME, "needs": NEEDS}
CURRENT_LOSS = {"name": NAME, "needs": NEEDS, "every": replace(COUNT, example=50)}  # made anew while a student trains
CURRICULUM = {
    "name": NAME,
    "balanced": SWITCH,
    "score": lambda given: CURRENT_LOSS if value_at(given, "needs") == "current_loss" else SCORE,
    "order": {"name": one_of("easy_to_hard", "hard_to_easy", "random")},
    "pacing": {"_target_": Target(handed=(3, 3)), "name": NAME},  # update, updates, batches_per_epoch
    "figures?": SWITCH,  # of fitnets.commands.controls
}
STAGE = {
    "name": FILED,
    "title": NAME,
    "next?": {"stage": NAME, "why?": NAME},  # what a summary names to type next
    "options?": {ANY_KEY: ANYTHING},  # for what the stage names
    "min_seeds?": COUNT,  # how many of `seeds` it takes
    **each(SWITCH, "needs_curriculum?", "needs_score?"),  # a score that is made before any training
}
TRAINING = {  # with one objective
    **STAGE,
    "_target_": NAME,
    "kind?": FILED,
    "trains": one_of("teacher", "student"),
    "needs": {ANY_KEY: NAME},
    "labels": one_of("none", "visible", "all"),
    "decided_by": value(list[Word], "a list of keys of the config", "[kd_loss]"),
    "tested": SWITCH,
    "epochs?": WHOLE,
    "keep?": KEEP,
}
COMMANDS = {
    **STAGE,
    "commands": NAME,  # the function of the config that makes them
    "fixed?": SWITCH,  # whether the rows are known before any training, so that test is shown for all
    "arms?": value(list[Word], "a list of arms", "[backprop,kd]", min_length=1),
    "arm?": NAME,
    "orders?": value(list[Order], "some of iid | random | hard_to_easy | easy_to_hard", "[iid,random]", min_length=1),
    "max_pairs?": null_or(COUNT, 20),
    "pairs?": null_or(PAIRS, "[[conv1,conv4],[conv2,conv6]]"),
}
STEPS = {**STAGE, "steps": value(list[Word], "a list of stages", "[hint,kd]", min_length=1)}
RUNS = {**STAGE, "runs": NAME}  # the function of the config that plans them


def stage(given: Any) -> Group:
    for key, form in (("steps", STEPS), ("commands", COMMANDS), ("runs", RUNS)):
        if value_at(given, key) is not MISSING:
            return form
    return TRAINING


LOGGERS = {
    "csv?": {},
    "wandb?": {
        "project": value(Word, "a name without any of /\\#?%:,", "NAME", pattern=r"^[^/\\#?%:]+$", max_length=128),
        **each(null_or(NAME, "NAME"), "entity", "group"),
        "tags": value(list[Tag], "a list of words of at most 64 letters", "[mine]"),
    },
    "tensorboard?": {},
    "none?": {},
}
CONFIG = {
    **{name.rstrip("?"): form for name, form in RECIPE.items()},  # a teacher's may leave some out
    "stage": stage,
    "teacher": {"name": FILED, "net": NET, "init": FILLING, "recipe": TEACHER_RECIPE},
    "student": {"name": FILED, "net": NET, "pieces?": COUNT},  # pieces: what `net` refers to
    "dataset": {
        "_target_": Target(handed_by_name=("split_seed",)),
        "name": FILED,
        "val_fraction": BETWEEN,
        "val_split?": one_of("balanced", "last"),
        "labels": Value(Literal["all"] | COUNT.kind, "it must be all or a whole number >= 1: type {0}=50"),
        "label_noise?": BELOW_ONE,
    },
    "hint": {"teacher_layer": LAYERS, "student_layer": LAYERS, "nonlinearity": NONLINEARITY},
    "regressor": REGRESSOR,
    **each(OBJECTIVE, "hint_loss", "kd_loss"),
    "preprocess": {"_target_": Target(handed=(1, 1)), "name?": NAME, "fit_on": one_of("train", "all")},
    "augment": {"name?": NAME, **AUGMENTATION, "variants": null_or(COUNT, 16)},
    "recipe_augment": AUGMENTATION,
    "init": {"name": NAME, "student": FILLING, "regressor": FILLING},
    "curriculum": lambda given: ANYTHING if value_at(given, "name") == "none" else CURRICULUM,  # none: see rules.py
    "trainer": {
        "accelerator": one_of("auto", "cpu", "gpu"),
        "precision": one_of("32-true", "bf16-mixed", "16-mixed"),
        "checkpoint_seconds": replace(FROM_ZERO, example=0.5),
        "threads": null_or(value(int, "a whole number from 1 to 1024", ge=1, le=1024), 2),
        "devices": COUNT,
        "gpu": null_or(WHOLE, 0),
        "images_at": one_of("device", "disk"),
        "answers_at": one_of("device", "memory", "disk"),
        "answers_gib": replace(POSITIVE, example=16),
        "channels_last": one_of("auto", True, False),
        "fused": one_of("auto", False),
        "compile": one_of(True, False, "reduce-overhead", "max-autotune"),
    },
    "logger": (Value(dict, "type {0}= one or, as a list [a,b], some of: csv | wandb | tensorboard | none"), LOGGERS),
    "epochs": {"teacher": null_or(COUNT, 30), "hint": COUNT, "kd": COUNT},
    "lambda_schedule": SCHEDULE,
    **each(WHOLE, "seed", "teacher_seed", "split_seed"),
    "seeds": value(list[Whole], "different whole numbers", "[0,1,2]"),
    "arms": ANYTHING,  # which stage.arms refers to
    "temperature": TEMPERATURE,
    "dropout": BELOW_ONE,
    "guided_lr_scale": FROM_ZERO,
    "updates_per_epoch": null_or(COUNT, 2),
    "patience": null_or(COUNT, 100),
    "answers": one_of("auto", "cached", "online"),
    "answers_dtype": one_of("float32", "float16"),
    "runs_dir": NAME,
    **each(SWITCH, "retrain_on_all", "fresh", "dry_run"),
}
