"""Check the whole config before any training: every problem at once, each with what to type instead.

`check_config` needs no torch and takes milliseconds; `check_nets` builds the networks on the meta device.
"""

import importlib.util
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import Any

from fitnets.check_curriculum import check_curriculum, check_scoring
from fitnets.components import problem_with
from fitnets.data.identity import problem_with_path
from fitnets.data.variants import how_answered, variants_of
from fitnets.loggers import LOGGERS
from fitnets.runs import ARMS

LR_SCHEDULES = ("cosine", "linear", "exponential", "steps", "constant")
COMPONENTS = (  # keys that hold a `_target_`
    *("teacher.net", "teacher.init", "teacher.recipe.optimizer", "student.net"),
    *("dataset", "init.student", "init.regressor", "optimizer", "lambda_schedule", "preprocess"),
)
GROUPS = (  # keys that have parts of their own
    *("stage", "teacher", "teacher.recipe", "student", "hint", "init", "curriculum", "trainer"),
    *("epochs", "kd_loss", "augment", "teacher.recipe.augment"),
    *COMPONENTS,
)

CHOICES = {
    "stage.name": ("teacher", "hint", *ARMS, "compare", "positions", "score", "controls"),
    "kd_loss.name": ("paper", "code", "hinton"),
    "lr_schedule": LR_SCHEDULES,
    "max_norm": (True, False),
    "retrain_on_all": (True, False),
    "preprocess.fit_on": ("train", "all"),
    "augment.flip": (True, False),
    "teacher.recipe.augment.flip": (True, False),
    "keep": ("last", "best"),
    "answers": ("auto", "cached", "online"),
    "answers_dtype": ("float32", "float16"),
    "trainer.images_at": ("device", "disk"),
    "trainer.answers_at": ("device", "memory", "disk"),
    "trainer.channels_last": ("auto", True, False),
    "trainer.fused": ("auto", False),
    "trainer.compile": (False, True, "reduce-overhead", "max-autotune"),
    "hint.regressor": ("auto", "strided", "fc"),
    "hint.nonlinearity": ("auto", "relu", "linear", "maxout"),
    "hint.reduction": ("example", "mean", "code"),
    "teacher.recipe.lr_schedule": LR_SCHEDULES,
    "teacher.recipe.keep": ("last", "best"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "fresh": (True, False),
    "dry_run": (True, False),
}

NUMBERS: dict[str, tuple[str, Callable[[float], bool], str]] = {  # key -> what it must be, test, example
    "temperature": ("a number > 0", lambda v: v > 0, "3"),
    "lambda_schedule.start": ("a number >= 0", lambda v: v >= 0, "4"),
    "lambda_schedule.end": ("a number >= 0", lambda v: v >= 0, "1"),
    "lr_end": ("a number from 0 to 1", lambda v: 0 <= v <= 1, "0"),
    "conv_lr_scale": ("a number > 0", lambda v: v > 0, "1.0"),
    "guided_lr_scale": ("a number >= 0", lambda v: v >= 0, "1.0"),
    "dropout": ("a number >= 0 and < 1", lambda v: 0 <= v < 1, "0.2"),
    "dataset.val_fraction": ("a number > 0 and < 1", lambda v: 0 < v < 1, "0.2"),
    "trainer.answers_gib": ("a number > 0", lambda v: v > 0, "16"),
    "trainer.checkpoint_seconds": ("a number >= 0", lambda v: v >= 0, "0.5"),
}
OPTIONAL_NUMBERS: dict[str, tuple[str, Callable[[float], bool], str]] = {  # not in every optimizer, loss and dataset
    "lambda_schedule.fraction": ("a number > 0 and <= 1", lambda v: 0 < v <= 1, "1.0"),
    "lambda_schedule.begin": ("a number >= 1", lambda v: v >= 1, "5"),
    "lambda_schedule.saturate": ("a number >= 1", lambda v: v >= 1, "400"),
    "kd_loss.alpha": ("a number from 0 to 1", lambda v: 0 <= v <= 1, "0.9"),
    "optimizer.lr": ("a number > 0", lambda v: v > 0, "0.002"),
    "teacher.recipe.optimizer.lr": ("a number > 0", lambda v: v > 0, "0.002"),
    "dataset.label_noise": ("a number >= 0 and < 1", lambda v: 0 <= v < 1, "0"),
    "dataset.test_fraction": ("a number > 0 and < 1", lambda v: 0 < v < 1, "0.2"),
}

WHOLE = {  # key -> smallest value
    "teacher.recipe.epochs": 1,
    "epochs.hint": 1,
    "epochs.kd": 1,
    "batch_size": 1,
    "augment.crop": 0,
    "teacher.recipe.augment.crop": 0,
    "teacher.recipe.batch_size": 1,
    "trainer.devices": 1,
    "seed": 0,
    "teacher_seed": 0,
    "split_seed": 0,
}


NULL_OR_WHOLE = {"trainer.threads": 2, "augment.variants": 16, "patience": 100, "epochs.teacher": 30}
NULL_OR_WHOLE |= {"updates_per_epoch": 2}  # key -> example

OPTIONAL_CHOICES = {"dataset.val_split": ("balanced", "last")}


class ConfigError(Exception):
    """Every problem found in a config, as one message."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        lines = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"The config has {count}; nothing was trained.", *lines]))


def check_config(cfg: dict[str, Any]) -> list[str]:
    """Problems with names, numbers and source files."""
    problems = []
    broken: list[str] = []
    for key in sorted(GROUPS):  # a group before its parts
        if any(key.startswith(f"{group}.") for group in broken):
            continue
        value = _get(cfg, key)
        if not isinstance(value, dict):
            broken.append(key)
            problems.append(f"{key} {_given(value)}; it has parts, set one of them: {_parts_of(key)}")
        elif key in COMPONENTS and not isinstance(value.get("_target_"), str):
            problems.append(f"{key}._target_ {_given(value.get('_target_', _ABSENT))}; it must be a dotted path")
    if problems:
        return problems  # the rest could only repeat them
    for key, choices in (CHOICES | OPTIONAL_CHOICES).items():
        value = _get(cfg, key)
        if value is _ABSENT and key in OPTIONAL_CHOICES:
            continue
        if not any(value is choice or (value == choice and isinstance(value, str)) for choice in choices):
            listed = " | ".join(str(choice).lower() if isinstance(choice, bool) else choice for choice in choices)
            typed = "regressor" if key == "hint.regressor" else key
            problems.append(f"{typed} {_given(value)}; type {typed}= one of: {listed}")
    for key, (expected, holds, example) in (NUMBERS | OPTIONAL_NUMBERS).items():
        value = _get(cfg, key)
        if value is _ABSENT and key in OPTIONAL_NUMBERS:
            continue
        if not (_is_number(value) and holds(value)):
            problems.append(f"{key} {_given(value)}; it must be {expected}: type {key}={example}")
    for key, smallest in WHOLE.items():
        value = _get(cfg, key)
        if not (_is_whole(value) and value >= smallest):
            expected = f"a whole number >= {smallest}: type {key}={max(smallest, 1)}"
            problems.append(f"{key} {_given(value)}; it must be {expected}")
    for key in ("runs_dir", "teacher.name", "student.name", "dataset.name", "init.name"):
        value = _get(cfg, key)
        if not isinstance(value, str) or not value:
            problems.append(f"{key} {_given(value)}; it must be a name: type {key}=NAME")
    for key in ("hint.teacher_layer", "hint.student_layer"):
        if not isinstance(_get(cfg, key), str | int):
            problems.append(f"{key} {_given(_get(cfg, key))}; type {key}= a module's name, early, middle or late")
    for key in ("momentum", "teacher.recipe.momentum"):
        rising, optimizer = _get(cfg, key), _get(cfg, key.replace("momentum", "optimizer"))
        if rising not in (None, _ABSENT):
            fine = isinstance(rising, dict) and all(_is_number(rising.get(part)) for part in ("end", "fraction"))
            if not fine or rising["fraction"] <= 0:
                problems.append(
                    f"{key} {_given(rising)}; it must be null or have numbers: type {key}.end=0.7 and .fraction=0.5"
                )
            elif "momentum" not in optimizer:
                problems.append(f"{key} rises, but {optimizer['_target_']} is given none: type {key}=null")
    for key, typical in NULL_OR_WHOLE.items():
        value = _get(cfg, key)
        if value is not None and not (_is_whole(value) and value >= 1):
            problems.append(f"{key} {_given(value)}; it must be null or a whole number >= 1: type {key}={typical}")
    if not problems and cfg["answers"] == "cached" and variants_of(cfg["augment"]) is None:
        problems.append(
            "answers is 'cached', but crops are drawn freely, so a sample has too many variants to answer each: type "
            "answers=online, or augment.variants=16 for that many fixed random ones of each sample"
        )
    if not problems and cfg["augment"]["variants"] and not (cfg["augment"]["flip"] or cfg["augment"]["crop"]):
        problems.append("augment.variants has nothing to vary: type augment=crop4_flip, or augment.variants=null")
    if "path" in cfg["dataset"] and (problem := problem_with_path(cfg["dataset"]["path"])):
        problems.append(problem)
    labels = _get(cfg, "dataset.labels")
    if labels != "all" and not (_is_whole(labels) and labels >= 1):
        problems.append(
            f"dataset.labels {_given(labels)}; it must be all or a whole number >= 1: type dataset.labels=50"
        )
    problems += _check_loggers(cfg.get("logger"))
    if cfg["stage"]["name"] in ("compare", "controls"):
        problems += _check_comparison(cfg)
    problems += check_curriculum(cfg)
    if cfg["stage"]["name"] == "positions":
        problems += _check_positions(cfg)
    if not problems and cfg["trainer"]["devices"] > 1:
        problems += _check_devices(cfg)
    gpu = _get(cfg, "trainer.gpu")
    if gpu is not None and not (_is_whole(gpu) and gpu >= 0):
        problems.append(f"trainer.gpu {_given(gpu)}; it must be null or a whole number >= 0: type trainer.gpu=0")
    for key in COMPONENTS:
        target = _get(cfg, key)["_target_"]
        if problem := problem_with(target):
            problems.append(f"{key}._target_={target}: {problem}")
    return problems


def _check_loggers(chosen: Any) -> list[str]:
    """Problems with `logger`, which has an entry for each logger that was typed."""
    if not isinstance(chosen, dict) or not chosen or not set(chosen) <= set(LOGGERS):
        given = list(chosen) if isinstance(chosen, dict) else chosen
        return [f"logger is {given!r}; type logger= one or, as a list [a,b], some of: {' | '.join(LOGGERS)}"]
    problems = []
    if "none" in chosen and len(chosen) > 1:
        problems.append(f"logger is {list(chosen)}; none stands alone: type logger=none, or leave it out of the list")
    if "tensorboard" in chosen and not importlib.util.find_spec("tensorboard"):
        problems.append("logger=tensorboard needs a package: type pip install 'fitnets[tensorboard]'")
    if "wandb" not in chosen:
        return problems
    wandb = chosen["wandb"] or {}
    for key in ("project", "entity", "group"):
        value = wandb.get(key, _ABSENT)
        if not (isinstance(value, str) and value) and (key == "project" or value is not None):
            expected = "a name" if key == "project" else "null or a name"
            problems.append(f"logger.wandb.{key} {_given(value)}; it must be {expected}: type logger.wandb.{key}=NAME")
    tags = wandb.get("tags", _ABSENT)
    if not isinstance(tags, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 64 for tag in tags):
        expected = "a list of words of at most 64 letters"
        problems.append(f"logger.wandb.tags {_given(tags)}; it must be {expected}: type logger.wandb.tags=[mine]")
    return problems


def _check_comparison(cfg: dict[str, Any]) -> list[str]:
    seeds, arms, known = cfg["seeds"], cfg["stage"].get("arms"), ARMS
    problems = []
    whole = isinstance(seeds, list) and all(_is_whole(seed) and seed >= 0 for seed in seeds)
    if not whole or len(seeds) < 2 or len(set(seeds)) < len(seeds):
        problems.append(f"seeds is {seeds!r}; it must be 2 or more different whole numbers: type seeds=[0,1,2]")
    if cfg["stage"]["name"] == "controls":
        return problems
    fine = isinstance(arms, list) and arms and all(arm in known for arm in arms)
    if not fine or len(set(arms)) < len(arms):
        listed = " | ".join(known)
        problems.append(f"stage.arms is {arms!r}; type stage.arms=[...] with some of, each once: {listed}")
    return problems


def _check_devices(cfg: dict[str, Any]) -> list[str]:
    """Every rank gets the same number of images of a batch."""
    devices, problems = cfg["trainer"]["devices"], []
    sizes = {"batch_size": cfg["batch_size"], "teacher.recipe.batch_size": cfg["teacher"]["recipe"]["batch_size"]}
    for key, size in sizes.items():
        if size % devices:
            fits = max(devices, size - size % devices)
            problems.append(f"{key} is {size}, which {devices} devices cannot share out equally: type {key}={fits}")
    labels, stage = cfg["dataset"]["labels"], cfg["stage"]
    arms = {"compare": stage.get("arms"), "controls": [stage.get("arm")]}.get(stage["name"], [stage["name"]])
    labelled_only = any(arm.endswith("backprop") or arm.startswith("label_hint") for arm in arms)
    if labelled_only and labels != "all" and min(labels, cfg["batch_size"]) % devices:
        fits = max(devices, labels - labels % devices)
        problems.append(
            f"dataset.labels is {labels}, so backprop's batch is of {labels} images, which {devices} devices cannot "
            f"share out equally: type dataset.labels={fits}"
        )
    return problems


def _check_positions(cfg: dict[str, Any]) -> list[str]:
    seeds, most, pairs = cfg["seeds"], cfg["stage"].get("max_pairs", _ABSENT), cfg["stage"].get("pairs", _ABSENT)
    problems = []
    if not (isinstance(seeds, list) and seeds and all(_is_whole(seed) and seed >= 0 for seed in seeds)) or (
        len(set(seeds)) < len(seeds)
    ):
        problems.append(f"seeds is {seeds!r}; it must be one or more different whole numbers: type seeds=[0,1,2]")
    if most is not None and not (_is_whole(most) and most >= 1):
        problems.append(
            f"stage.max_pairs {_given(most)}; it must be null or a whole number >= 1: type stage.max_pairs=20"
        )
    of_two = isinstance(pairs, list) and pairs and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if pairs is not None and not of_two:
        example = "stage.pairs=[[conv1,conv4],[conv2,conv6]]"
        problems.append(
            f"stage.pairs {_given(pairs)}; it must be null or pairs of teacher's and student's layers: type {example}"
        )
    return problems


def check_nets(cfg: dict[str, Any]) -> list[str]:
    """Problems with data, networks, layers, shapes, class counts and devices. Trains nothing.

    Networks are built on the meta device, and Lightning is not imported: this takes seconds.
    """
    import torch

    from fitnets.data.images import split

    problems = []
    gpu = cfg["trainer"]["accelerator"] != "cpu" and torch.cuda.is_available()
    if cfg["trainer"]["accelerator"] == "gpu" and not gpu:
        problems.append("trainer=gpu, but torch finds no GPU here: type trainer=auto or trainer=cpu")
    devices = cfg["trainer"]["devices"]
    if gpu and devices > torch.cuda.device_count():
        found = torch.cuda.device_count()
        problems.append(
            f"trainer.devices is {devices}, torch finds {found} GPUs: type trainer.devices={found}, or "
            "trainer.accelerator=cpu for as many CPU processes"
        )
    if cfg["trainer"]["precision"] == "16-mixed" and not gpu:
        problems.append("trainer.precision=16-mixed needs a GPU: type trainer.precision=32-true or bf16-mixed")
    name, labels = cfg["dataset"]["name"], cfg["dataset"]["labels"]
    try:
        images, train, val = split(cfg["dataset"], cfg["split_seed"])
    except Exception as error:
        return [*problems, f"dataset {name} cannot be read: {error}"]
    if min(len(train), len(images.test_labels)) < devices or len(val) < max(2, devices):
        sizes = f"{len(train)} train, {len(val)} validation and {len(images.test_labels)} test images"
        problems.append(f"dataset {name} has {sizes}: change dataset.val_fraction or dataset.test_fraction")
    for key in ("batch_size", "teacher.recipe.batch_size"):
        if len(train) < _get(cfg, key) and len(train) % devices:
            fits = len(train) - len(train) % devices
            problems.append(f"{key} is {_get(cfg, key)}, {name} has {len(train)} training images: type {key}={fits}")
    input_shape, classes = tuple(images.images.shape[1:]), len(images.class_names)
    if labels != "all" and not classes <= labels <= len(train):
        problems.append(
            f"dataset.labels is {labels}; {name} has {classes} classes and {len(train)} training images: "
            f"type dataset.labels=N with N from {classes} to {len(train)}, or all"
        )
    stage = cfg["stage"]["arm"] if cfg["stage"]["name"] == "controls" else cfg["stage"]["name"]
    needs = cfg["curriculum"]["score"]["needs"] if "score" in cfg["curriculum"] else "nothing"
    nets = {}
    for role in ("teacher", "student"):
        needed = stage != "teacher" if role == "student" else not stage.endswith("backprop")
        needed = needed or needs in ("teacher", "hint")
        if needed:
            nets[role] = _try_net(role, cfg[role]["net"], input_shape, classes, problems)
            key = "teacher.init" if role == "teacher" else "init.student"
            if nets[role] is not None:
                _try_init(key, _get(cfg, key), nets[role], problems)
    for key, spec in (
        ("optimizer", cfg["optimizer"]),
        ("teacher.recipe.optimizer", cfg["teacher"]["recipe"]["optimizer"]),
    ):
        _try_optimizer(key, spec, problems)
    _try_call("lambda_schedule", cfg["lambda_schedule"], problems, 0, 1)
    for part, known in (("pacing", (0, 1, 1)), ("score", (None,))):
        spec = cfg["curriculum"].get(part, {})
        if "_target_" in spec:
            options = {key: value for key, value in spec.items() if key not in ("name", "needs")}
            _try_call(f"curriculum.{part}", options, problems, *known)
    if not any(problem.startswith("curriculum.") for problem in problems):
        problems += check_scoring(cfg, images.labels, train)
    _try_call("preprocess", {k: v for k, v in cfg["preprocess"].items() if k not in ("name", "fit_on")}, problems, None)
    if (
        stage in ("kd", "compare", "positions")
        and cached_gib(cfg, len(train), len(val), (classes,)) > cfg["trainer"]["answers_gib"]
    ):
        problems.append(_too_small(cfg, len(train), len(val), (classes,)))
    hints = needs == "hint" or stage not in ("teacher", "backprop", "kd", "score")
    if not hints or None in nets.values() or len(nets) < 2:
        return problems
    own = stage == "positions"
    pairs = cfg["stage"]["pairs"] or [] if own else [[cfg["hint"][f"{role}_layer"] for role in ("teacher", "student")]]
    for teacher_layer, student_layer in pairs:
        key = "stage.pairs" if own else "hint"
        problems += _check_pair(cfg, nets, input_shape, str(teacher_layer), str(student_layer), key, (train, val))
    return list(dict.fromkeys(problems))


def _check_pair(
    cfg: dict[str, Any], nets: Any, input_shape: Any, teacher_layer: str, student_layer: str, key: str, parts: Any
) -> list[str]:
    """Problems with a pair of layers: names, shapes, the regressor's weights, the size of the cached hints."""
    import torch

    from fitnets.layers import LayerError, plan_regressor, resolve_layer

    problems, shapes = [], []
    for role, layer in (("teacher", teacher_layer), ("student", student_layer)):
        try:
            typed = key if key == "stage.pairs" else f"{key}.{role}_layer"
            shapes.append(resolve_layer(nets[role], layer, input_shape, role, typed)[1])
        except LayerError as error:
            problems.append(str(error))
    if len(shapes) == 2:
        try:
            plan = plan_regressor(shapes[1], shapes[0], cfg["hint"]["regressor"])
            with torch.device("meta"):
                _try_init("init.regressor", cfg["init"]["regressor"], plan.build(), problems)
        except LayerError as error:
            problems.append(f"hint {student_layer} -> {teacher_layer}: {error}")
        train, val = map(len, parts)
        if cached_gib(cfg, train, val, shapes[0]) > cfg["trainer"]["answers_gib"]:
            problems.append(_too_small(cfg, train, val, shapes[0]))
    return problems


def cached_gib(cfg: dict[str, Any], train: int, val: int, shape: tuple[int, ...]) -> float:
    """What the cached answers of one layer take; 0 where the teacher answers online."""
    from fitnets.stages.answers import cache_gib

    variants = variants_of(cfg["augment"])
    if how_answered(cfg["answers"], cfg["augment"]) == "online" or variants is None:
        return 0.0
    return cache_gib(train, val, variants, shape, cfg["answers_dtype"])


def _too_small(cfg: dict[str, Any], train: int, val: int, shape: tuple[int, ...]) -> str:
    needed, given = cached_gib(cfg, train, val, shape), cfg["trainer"]["answers_gib"]
    rows, each = train * (variants_of(cfg["augment"]) or 1) + val, "x".join(map(str, shape))
    return (
        f"the teacher's answers take {needed:.3g} GiB ({rows:,} rows of {each} {cfg['answers_dtype']}), "
        f"trainer.answers_gib is {given}: type trainer.answers_gib={math.ceil(needed)} (with trainer.answers_at=disk "
        "they need not fit in memory), answers_dtype=float16 for half of it, or answers=online"
    )


def _try_net(role: str, spec: dict[str, Any], input_shape: Any, classes: int, problems: list[str]) -> Any:
    """The network on the meta device; None after noting why it cannot be used."""
    import torch

    from fitnets.layers import layer_shapes
    from fitnets.load import build_net

    name = spec["_target_"]
    try:
        with torch.device("meta"):
            net = build_net(spec, input_shape, classes)
        output = layer_shapes(net, input_shape).get("")
    except Exception as error:
        shape = "x".join(map(str, input_shape))
        problems.append(f"the {role} {name} does not run on {shape} images with {classes} classes: {error}")
        return None
    if output != (classes,):
        problems.append(
            f"the {role} {name} gives outputs of shape {output} a sample; the data set has {classes} classes, so it "
            f"must give ({classes},): use its num_classes argument"
        )
        return None
    return net


def _try_init(key: str, spec: dict[str, Any], net: Any, problems: list[str]) -> None:
    from fitnets.components import build

    try:
        build(spec, net)
    except Exception as error:
        problems.append(f"{key} {spec['_target_']} cannot fill a network's weights: {error}")


def _try_optimizer(key: str, spec: dict[str, Any], problems: list[str]) -> None:
    import torch

    from fitnets.optim import new_optimizer

    try:
        new_optimizer(spec, [torch.nn.Parameter(torch.zeros(1))])
    except Exception as error:
        problems.append(f"{key} {spec['_target_']} cannot be made from {spec}: {error}")


def _try_call(key: str, spec: dict[str, Any], problems: list[str], *args: Any) -> None:
    """Whether the function that `spec` names takes the options beside it; it is not called."""
    try:
        function = pkgutil.resolve_name(spec["_target_"])
    except (AttributeError, ImportError) as error:
        problems.append(f"{key}._target_={spec['_target_']}: {error}")
        return
    try:
        inspect.signature(function).bind(*args, **{name: value for name, value in spec.items() if name != "_target_"})
    except TypeError as error:
        taken = ", ".join(list(inspect.signature(function).parameters)[len(args) :])
        problems.append(f"{key} {spec['_target_']}: {error}; its options are: {taken}")


_ABSENT = object()


def _get(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(cfg, dict) or part not in cfg:
            return _ABSENT
        cfg = cfg[part]
    return cfg


def _given(value: Any) -> str:
    return "is missing" if value is _ABSENT else f"is {value!r}"


def _parts_of(key: str) -> str:
    """Keys below a group that the checks know, to show what could have been meant."""
    targets = (f"{component}._target_" for component in COMPONENTS)
    known = (*CHOICES, *NULL_OR_WHOLE, *WHOLE, *NUMBERS, *OPTIONAL_NUMBERS, *targets)
    return ", ".join(part for part in known if part.startswith(f"{key}.")) or f"{key}.name"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
