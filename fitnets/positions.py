"""Which layers make pairs of hint and guided layer, found in the networks on the meta device (stage=positions)."""

from collections.abc import Callable
from typing import Any

from fitnets.config import ConfigError

Pair = tuple[str, str]  # the teacher's layer, the student's


def pairs_of(config: Any, say: Callable[[str], None]) -> list[Pair]:
    """`stage.pairs`, or those found, at most `stage.max_pairs`; says how many there are and which were left out."""
    stage = config["stage"]
    if stage["pairs"] is not None:
        return [(str(teacher), str(student)) for teacher, student in stage["pairs"]]
    pairs = found_pairs(config)
    if not pairs:
        kind = config["regressor"]["kind"]
        raise ConfigError(
            [f"no teacher layer and student layer fit regressor={kind}: type regressor=fc, which fits any"]
        )
    kept = thinned(pairs, stage["max_pairs"])
    text = f"Positions: {len(pairs)} pairs of layers fit"
    if len(kept) < len(pairs):
        text += f"; {len(pairs) - len(kept)} are left out, evenly along the teacher's and then the student's depth"
        text += f" (stage.max_pairs={stage['max_pairs']}; null: all)"
    say(text)
    return kept


def found_pairs(config: Any) -> list[Pair]:
    """Every pair that a regressor fits, by the teacher's depth, then the student's. Nets are on the meta device."""
    from fitnets.data.images import split
    from fitnets.models.layers import LayerError
    from fitnets.models.regressors import plan_regressor
    from fitnets.training.meta import shaped

    images, _, _ = split(config["dataset"], config["split_seed"])
    shape, classes = tuple(images.images.shape[1:]), len(images.class_names)
    teacher, student = (shaped(config[role]["net"], shape, classes)[0] for role in ("teacher", "student"))
    pairs = []
    for hint_layer, hint in trained_layers(teacher, shape).items():
        for guided_layer, guided in trained_layers(student, shape).items():
            try:
                plan_regressor(guided, hint, config["regressor"]["kind"])
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

    from fitnets.models.layers import layer_shapes, parameters_below

    taken: dict[str, set[int]] = {}
    given: dict[str, Any] = {}  # the tensors themselves, so that no storage is used twice

    def record(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            taken[names[module]] = {t.untyped_storage()._cdata for t in inputs if isinstance(t, torch.Tensor)}
            given[names[module]] = output

    names = {module: name for name, module in net.named_modules()}
    handles = [module.register_forward_hook(record) for module in names]
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
        and parameters_below(net, [name], input_shape)
    }  # fmt: skip


def thinned(pairs: list[Pair], most: int | None) -> list[Pair]:
    """At most that many of the pairs, evenly spaced, the first and the last among them; one: the middle one."""
    if most is None or len(pairs) <= most:
        return pairs
    if most == 1:
        return [pairs[len(pairs) // 2]]
    return [pairs[round(i * (len(pairs) - 1) / (most - 1))] for i in range(most)]
