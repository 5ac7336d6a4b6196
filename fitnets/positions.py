"""stage=positions: which layers make pairs of hint and guided layer, found in the networks; and the report on them.

Only this stage needs the networks' shapes to be planned; they are learned on the meta device.
"""

import hashlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitnets.check import ConfigError, check_nets
from fitnets.report.sweep import PAIR, add_page, points_of, teacher_of, write_report
from fitnets.runs import Run
from fitnets.sweep import described

Pair = tuple[str, str]  # the teacher's layer, the student's


def with_pairs(cfg: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The config with `stage.pairs` filled in; says how many there are and which were left out."""
    if cfg["stage"]["pairs"] is not None:
        return cfg
    if problems := check_nets(cfg):
        raise ConfigError(problems)
    pairs = found_pairs(cfg)
    if not pairs:
        kind = cfg["hint"]["regressor"]
        raise ConfigError(
            [f"no teacher layer and student layer fit regressor={kind}: type regressor=fc, which fits any"]
        )
    kept = thinned(pairs, cfg["stage"]["max_pairs"])
    told = f"Positions: {len(pairs)} pairs of layers fit"
    if len(kept) < len(pairs):
        told += f"; {len(pairs) - len(kept)} are left out, evenly along the teacher's and then the student's depth"
        told += f" (stage.max_pairs={cfg['stage']['max_pairs']}; null: all)"
    say(told)
    return cfg | {"stage": cfg["stage"] | {"pairs": [list(pair) for pair in kept]}}


def found_pairs(cfg: dict[str, Any]) -> list[Pair]:
    """Every pair that a regressor fits, by the teacher's depth, then the student's. Nets are on the meta device."""
    import torch

    from fitnets.data.images import split
    from fitnets.layers import LayerError, plan_regressor
    from fitnets.load import build_net

    images, _, _ = split(cfg["dataset"], cfg["split_seed"])
    shape, classes = tuple(images.images.shape[1:]), len(images.class_names)
    with torch.device("meta"):
        teacher, student = (build_net(cfg[role]["net"], shape, classes) for role in ("teacher", "student"))
    pairs = []
    for hint_layer, hint in trained_layers(teacher, shape).items():
        for guided_layer, guided in trained_layers(student, shape).items():
            try:
                plan_regressor(guided, hint, cfg["hint"]["regressor"])
            except LayerError:
                continue
            pairs.append((hint_layer, guided_layer))
    return pairs


def trained_layers(net: Any, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The layers that can be hint or guided layer, with their shapes, in the order in which they run.

    One map or vector a sample, with weights at or below it. What hands on its input (dropout, flatten, an in-place
    ReLU) and a block's last part (the block itself counts) give the same hint as another layer and are left out.
    """
    import torch

    from fitnets.layers import guided_parameters, layer_shapes

    taken: dict[str, set[int]] = {}
    given: dict[str, Any] = {}  # the tensors themselves, so that no storage is used twice

    def note(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            taken[names[module]] = {t.untyped_storage()._cdata for t in inputs if isinstance(t, torch.Tensor)}
            given[names[module]] = output

    names = {module: name for name, module in net.named_modules()}
    handles = [module.register_forward_hook(note) for module in names]
    shapes = layer_shapes(net, input_shape)
    for handle in handles:
        handle.remove()
    outputs = {name: output.untyped_storage()._cdata for name, output in given.items()}

    def same_as_its_block(name: str) -> bool:
        outer = [name.rpartition(".")[0]] if "." in name else []
        return any(outputs.get(block) == outputs[name] for block in outer)

    return {
        name: shape
        for name, shape in shapes.items()
        if name and len(shape) in (1, 3) and outputs[name] not in taken[name] and not same_as_its_block(name)
        and guided_parameters(net, name, input_shape)
    }  # fmt: skip


def thinned(pairs: list[Pair], most: int | None) -> list[Pair]:
    """At most that many of the pairs, evenly spaced, the first and the last among them; one: the middle one."""
    if most is None or len(pairs) <= most:
        return pairs
    if most == 1:
        return [pairs[len(pairs) // 2]]
    return [pairs[round(i * (len(pairs) - 1) / (most - 1))] for i in range(most)]


def report(cfg: dict[str, Any], named: list[Run], runs_dir: Path, console: Any, overrides: list[str]) -> float:
    """The ranked table and the heat map; the validation accuracy of the chosen pair."""
    facts = [described(run, runs_dir) for run in named]
    points = points_of(facts, PAIR, {})
    key = hashlib.sha256("".join(sorted(run.fingerprint for run in named)).encode()).hexdigest()[:10]
    nets = f"{cfg['student']['name']} from {cfg['teacher']['name']} on {cfg['dataset']['name']}"
    folder = runs_dir / "reports" / f"positions-{cfg['student']['name']}-{cfg['dataset']['name']}-{key}"
    labels = "" if cfg["dataset"]["labels"] == "all" else f", {cfg['dataset']['labels']} labels"
    command = shlex.join(["python", "run.py", *overrides])
    teacher = teacher_of(facts)
    title = f"hint positions, {nets}{labels}"
    table = write_report(folder, points, PAIR, title, command, console, teacher, ranked=True)
    add_page(folder, points, title, command, console)
    return next(row.validation for row in table if row.chosen)
