"""Check the whole config before any training: every problem at once, each with what to type instead.

`check_config` needs no torch and takes milliseconds; `check_nets` builds the networks on the meta device.
"""

from collections.abc import Callable
from typing import Any

from fitnets.components import problem_with, targets

CHOICES = {
    "kd_loss.name": ("paper", "hinton"),
    "lr_schedule": ("cosine", "constant"),
    "keep": ("best", "last"),
    "answers": ("cached", "online"),
    "hint.regressor": ("auto", "strided", "fc"),
    "hint.nonlinearity": ("auto", "relu", "linear", "maxout"),
    "hint.reduction": ("example", "mean", "code"),
    "teacher.recipe.lr_schedule": ("cosine", "constant"),
    "teacher.recipe.keep": ("best", "last"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "logger.name": ("csv",),
    "curriculum.name": ("none",),
}

NUMBERS: dict[str, tuple[str, Callable[[float], bool], str]] = {  # key -> what it must be, test, example
    "temperature": ("a number > 0", lambda v: v > 0, "3"),
    "lambda_schedule.start": ("a number >= 0", lambda v: v >= 0, "4"),
    "lambda_schedule.end": ("a number >= 0", lambda v: v >= 0, "1"),
    "lambda_schedule.fraction": ("a number > 0 and <= 1", lambda v: 0 < v <= 1, "1.0"),
    "kd_loss.alpha": ("a number from 0 to 1", lambda v: 0 <= v <= 1, "0.9"),
    "optimizer.lr": ("a number > 0", lambda v: v > 0, "0.002"),
    "dataset.test_fraction": ("a number > 0 and < 1", lambda v: 0 < v < 1, "0.2"),
    "dataset.val_fraction": ("a number > 0 and < 1", lambda v: 0 < v < 1, "0.2"),
    "trainer.checkpoint_seconds": ("a number >= 0", lambda v: v >= 0, "30"),
}

WHOLE = {  # key -> smallest value
    "epochs.teacher": 1,
    "epochs.hint": 1,
    "epochs.kd": 1,
    "batch_size": 1,
    "teacher.recipe.batch_size": 1,
    "seed": 0,
    "teacher_seed": 0,
    "split_seed": 0,
}


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
    for key, choices in CHOICES.items():
        if _get(cfg, key) not in (*choices, _ABSENT):
            listed = " | ".join(choices)
            typed = key.replace("hint.regressor", "regressor")
            problems.append(f"{typed} is {_get(cfg, key)!r}; type {typed}= one of: {listed}")
    for key, (expected, holds, example) in NUMBERS.items():
        value = _get(cfg, key)
        if value is not _ABSENT and not (_is_number(value) and holds(value)):
            problems.append(f"{key} is {value!r}; it must be {expected}: type {key}={example}")
    for key, smallest in WHOLE.items():
        value = _get(cfg, key)
        if value is not _ABSENT and not (_is_whole(value) and value >= smallest):
            problems.append(
                f"{key} is {value!r}; it must be a whole number >= {smallest}: type {key}={max(smallest, 1)}"
            )
    threads = cfg["trainer"]["threads"]
    if threads is not None and not (_is_whole(threads) and threads >= 1):
        problems.append(f"trainer.threads is {threads!r}; it must be null or a whole number >= 1")
    labels = cfg["dataset"]["labels"]
    if labels != "all" and not (_is_whole(labels) and labels >= 1):
        problems.append(f"dataset.labels is {labels!r}; it must be all or a whole number >= 1: type dataset.labels=50")
    problems += _check_seeds(cfg)
    for target in dict.fromkeys(targets(cfg)):
        problem = problem_with(target)
        if problem:
            problems.append(f"_target_ {target}: {problem}")
    return problems


def _check_seeds(cfg: dict[str, Any]) -> list[str]:
    seeds, arms = cfg["seeds"], cfg["stage"].get("arms", ["backprop"])
    problems = []
    whole = isinstance(seeds, list) and all(_is_whole(seed) and seed >= 0 for seed in seeds)
    if not whole or len(seeds) < 2 or len(set(seeds)) < len(seeds):
        problems.append(f"seeds is {seeds!r}; it must be 2 or more different whole numbers: type seeds=[0,1,2]")
    known = ("backprop", "kd", "fitnet")
    if not isinstance(arms, list) or not arms or any(arm not in known for arm in arms):
        problems.append(f"stage.arms is {arms!r}; type stage.arms=[...] with some of: {' | '.join(known)}")
    return problems


def check_nets(cfg: dict[str, Any]) -> list[str]:
    """Problems with layers, shapes, class counts and devices: builds the networks, reads the data, trains nothing."""
    import torch

    from fitnets.data.module import DataModule
    from fitnets.layers import LayerError, plan_regressor, resolve_layer

    problems = []
    if cfg["trainer"]["accelerator"] == "gpu" and not torch.cuda.is_available():
        problems.append("trainer=gpu, but torch finds no GPU here: type trainer=auto or trainer=cpu")
    dataset = {key: value for key, value in cfg["dataset"].items() if key != "labels"}
    data = DataModule(dataset, cfg["split_seed"], cfg["batch_size"], cfg["seed"])
    try:
        data.setup()
    except Exception as error:
        return [*problems, f"dataset {cfg['dataset']['name']} cannot be read: {error}"]
    labels, classes = cfg["dataset"]["labels"], data.num_classes
    if labels != "all" and not classes <= labels <= len(data.train_index):
        problems.append(
            f"dataset.labels is {labels}; {cfg['dataset']['name']} has {classes} classes and {len(data.train_index)} "
            f"training images: type dataset.labels=N with N from {classes} to {len(data.train_index)}, or all"
        )
    stage = cfg["stage"]["name"]
    nets = {}
    for role in ("teacher", "student"):
        needed = stage != "teacher" if role == "student" else stage != "backprop"
        if needed:
            nets[role] = _try_net(role, cfg[role]["net"], data.input_shape, classes, problems)
    for key, spec in (
        ("optimizer", cfg["optimizer"]),
        ("teacher.recipe.optimizer", cfg["teacher"]["recipe"]["optimizer"]),
    ):
        _try_optimizer(key, spec, problems)
    if stage not in ("hint", "fitnet", "compare") or None in nets.values():
        return problems
    shapes = []
    for role in ("teacher", "student"):
        try:
            _, shape = resolve_layer(
                nets[role], cfg["hint"][f"{role}_layer"], data.input_shape, role, f"hint.{role}_layer"
            )
            shapes.append(shape)
        except LayerError as error:
            problems.append(str(error))
    if len(shapes) == 2:
        try:
            plan_regressor(shapes[1], shapes[0], cfg["hint"]["regressor"])
        except LayerError as error:
            problems.append(f"hint {cfg['hint']['student_layer']} -> {cfg['hint']['teacher_layer']}: {error}")
    return problems


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


def _try_optimizer(key: str, spec: dict[str, Any], problems: list[str]) -> None:
    import torch

    from fitnets.components import build

    try:
        build(spec, [torch.nn.Parameter(torch.zeros(1))])
    except Exception as error:
        problems.append(f"{key} {spec.get('_target_')} cannot be made from {spec}: {error}")


_ABSENT = object()


def _get(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(cfg, dict) or part not in cfg:
            return _ABSENT
        cfg = cfg[part]
    return cfg


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
