"""Checks that need data, networks and devices, before any training: every problem at once. Trains nothing.

Networks are built on the meta device; what concerns layers, shapes and losses is asked of the stage. Takes seconds.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from traceback import extract_tb
from types import SimpleNamespace
from typing import Any

import torch

from fitnets.components import build, resolve
from fitnets.curriculum.checks import scoring_problems
from fitnets.data.batch import Batch
from fitnets.data.images import split
from fitnets.data.inventory import inventory, lines_of
from fitnets.data.variants import variants_of
from fitnets.losses.objective import Outputs
from fitnets.models.layers import Tap, probe
from fitnets.stages.answers import cache_gib
from fitnets.stages.base import StageInputs
from fitnets.stages.optimizers import new_optimizer
from fitnets.store import Run
from fitnets.training.meta import all_on_meta, shaped, to_cpu

OURS = str(Path(__file__).parents[1])
LIBRARY = re.compile(r"(site|dist)-packages|[\\/]lib[\\/]python")  # files that are nobody's own


def problems_with(config: Any, runs: Sequence[Run], say: Callable[[str], None] = lambda lines: None) -> list[str]:
    """Why `runs`, with all that they start from, cannot be trained as the config says; `say` is told of the data."""
    problems = device_problems(config) + share_problems(config, runs)
    name = config["dataset"]["name"]
    try:
        images, train, val = split(config["dataset"], config["split_seed"])
    except Exception as error:
        return [*problems, f"dataset {name} cannot be read: {error}"]
    say("\n".join(lines_of(name, inventory(images, train, val))))
    problems += size_problems(config, images, train, val)
    if problems:
        return problems
    labels = torch.arange(len(images.labels)) % len(images.class_names)  # not the true ones
    data = SimpleNamespace(
        name=name,
        input_shape=tuple(images.images.shape[1:]),
        num_classes=len(images.class_names),
        train_index=train,
        val_index=val,
        visible_labels=labels,
        preprocessed=lambda index: torch.zeros(len(index), *images.images.shape[1:]),
        updates=1,
    )
    problems += optimizer_problems(config, runs) + preprocess_problems(config)
    with torch.random.fork_rng(devices=[]):  # what is built on the CPU here moves no training
        for run in {_kind(run): run for run in runs if run.trains != "score"}.values():
            problems += run_problems(config, run, data)
    problems += scoring_problems(config, runs, images.labels, train)
    return list(dict.fromkeys(problems))


def _kind(run: Run) -> str:
    """What tells runs apart that are checked alike, whatever their seed."""
    parents = {role: parent.spec for role, parent in run.parents.items()}
    return json.dumps([run.target, run.spec, parents], sort_keys=True)


def device_problems(config: Any) -> list[str]:
    trainer, problems = config["trainer"], []
    gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
    if trainer["accelerator"] == "gpu" and not gpu:
        problems.append("trainer=gpu, but torch finds no GPU here: type trainer=auto or trainer=cpu")
    if gpu and trainer["devices"] > torch.cuda.device_count():
        found = torch.cuda.device_count()
        problems.append(
            f"trainer.devices is {trainer['devices']}, torch finds {found} GPUs: type trainer.devices={found}, or "
            "trainer.accelerator=cpu for as many CPU processes"
        )
    if trainer["precision"] == "16-mixed" and not gpu:
        problems.append("trainer.precision=16-mixed needs a GPU: type trainer.precision=32-true or bf16-mixed")
    return problems


def share_problems(config: Any, runs: Sequence[Run]) -> list[str]:
    """Whether every process gets as many of the few images that a training without a teacher draws from."""
    labels, devices = config["dataset"]["labels"], config["trainer"]["devices"]
    drawn = [run for run in runs if run.only_labelled]
    if not drawn or labels == "all" or min(labels, config["batch_size"]) % devices == 0:
        return []
    fits = max(devices, labels - labels % devices)
    return [
        f"dataset.labels is {labels}, so {drawn[0].stage}'s batch is of {labels} images, which {devices} devices "
        f"cannot share out equally: type dataset.labels={fits}"
    ]


def size_problems(config: Any, images: Any, train: Any, val: Any) -> list[str]:
    """Problems with how many images there are for a batch, a validation part, the labels that are asked for."""
    problems, devices = [], config["trainer"]["devices"]
    name, labels, classes = config["dataset"]["name"], config["dataset"]["labels"], len(images.class_names)
    if min(len(train), len(images.test_labels)) < devices or len(val) < max(2, devices):
        sizes = f"{len(train)} train, {len(val)} validation and {len(images.test_labels)} test images"
        problems.append(f"dataset {name} has {sizes}: change dataset.val_fraction or dataset.test_fraction")
    sizes_of = {
        "batch_size": config["batch_size"],
        "teacher.recipe.batch_size": config["teacher"]["recipe"]["batch_size"],
    }
    for key, size in sizes_of.items():
        if len(train) < size and len(train) % devices:
            fits = len(train) - len(train) % devices
            problems.append(f"{key} is {size}, {name} has {len(train)} training images: type {key}={fits}")
    noise = config["dataset"].get("label_noise") or 0
    if noise and not round(noise * len(train)):
        problems.append(
            f"dataset.label_noise is {noise}; of {len(train)} training images none would have a wrong label: type "
            f"dataset.label_noise={1 / len(train):.2g} or more"
        )
    if labels != "all" and not classes <= labels <= len(train):
        problems.append(
            f"dataset.labels is {labels}; {name} has {classes} classes and {len(train)} training images: "
            f"type dataset.labels=N with N from {classes} to {len(train)}, or all"
        )
    return problems


def optimizer_problems(config: Any, runs: Sequence[Run]) -> list[str]:
    """Optimizers whose options cannot be used."""
    problems = []
    optimizers = {"optimizer": config["optimizer"]}
    if any(run.trains == "teacher" for run in runs):
        optimizers["teacher.recipe.optimizer"] = config["teacher"]["recipe"]["optimizer"]
    for key, spec in optimizers.items():
        try:
            new_optimizer(spec, [torch.nn.Parameter(torch.zeros(1))])
        except Exception as error:
            problems.append(f"{key} {spec['_target_']} cannot be made from {spec}: {error}")
    return problems


def preprocess_problems(config: Any) -> list[str]:
    """Whether the preprocessing takes what it is given; to fit it would take long."""
    spec = config["preprocess"]
    options = {key: value for key, value in spec.items() if key not in ("_target_", "name", "fit_on")}
    try:
        called = resolve(spec["_target_"])
        signature(called).bind(lambda: (), **options)
    except ValueError:  # no signature is known
        pass
    except Exception as error:
        return [f"preprocess {spec['_target_']} cannot be called with the images and {options}: {error}"]
    return []


def run_problems(config: Any, run: Run, data: Any) -> list[str]:
    """Problems of one training: its networks, and what its stage says."""
    problems: list[str] = []
    init = run.spec["teacher"]["init"] if run.trains == "teacher" else run.spec["init"]["student"]
    net = meta_net(run.trains, run.spec[run.trains]["net"], data, problems)
    if net is not None:
        try:
            build(init, net)
        except Exception as error:
            problems.append(f"init of the {run.trains}, {init['_target_']}, cannot fill its weights: {error}")
    teacher = None
    if "teacher" in run.parents:
        teacher = meta_net("teacher", run.parents["teacher"].spec["teacher"]["net"], data, problems)
    if problems:
        return problems
    asked: list[str] = []  # the layers whose answers it uses; "" is the teacher's end

    def answers(layers: Sequence[str], logits: bool) -> Any:
        asked.extend([*layers, *[""] * logits])
        assert teacher is not None
        tap = Tap(teacher, layers, data.input_shape, to_end=logits)
        return lambda batch: Outputs(*tap(batch.x))

    inputs = StageInputs(
        spec=run.spec,
        role=run.trains,
        data=data,
        net=net,
        seed=0,
        epochs=1,
        recipe=run.spec["recipe"],
        teacher=teacher,
        answers=answers,
    )
    return refusals(run, inputs) or answer_problems(config, run, inputs, asked)


def refusals(run: Run, inputs: StageInputs) -> list[str]:
    """What the stage says when it is built and given a batch: an error of its own is a refusal.

    What torch cannot do on the meta device is tried on the CPU; what Lightning cannot do without a trainer, only the
    training will tell.
    """
    nets = [net for net in (inputs.net, inputs.teacher) if net is not None]
    if all_on_meta(*nets):
        with suppress(NotImplementedError):  # a boolean mask, say
            return refused_on(torch.device("meta"), run, inputs)
    for net in nets:
        to_cpu(net)
    return refused_on(torch.device("cpu"), run, inputs)


def refused_on(device: torch.device, run: Run, inputs: StageInputs) -> list[str]:
    ids = inputs.data.train_index[:2]
    try:
        with device:
            stage = resolve(run.target)(inputs)
            labels = torch.zeros(len(ids), dtype=torch.long)
            terms = stage.terms(Batch(ids, torch.zeros(len(ids), *inputs.input_shape), labels, labels))
            return term_problems(run.target, terms, stage.weights())
    except ExceptionGroup as group:
        return [str(error) for error in group.exceptions]
    except NotImplementedError:
        raise
    except ValueError as error:  # said on purpose
        return [str(error)]
    except Exception as error:
        if device.type == "meta" and "meta" in str(error):  # .item(), say
            raise NotImplementedError from error
        if any(word in str(error) for word in ("trainer", "Trainer")):
            return []
        frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(OURS)]
        user = [frame for frame in frames if not LIBRARY.search(frame.filename)]
        at = f" ({Path(user[-1].filename).name}, line {user[-1].lineno})" if user else ""
        return [f"{run.title}, {run.target}: {type(error).__name__}: {error}{at}"]


def term_problems(target: str, terms: Any, weights: Mapping[str, float]) -> list[str]:
    """Why what a stage gives as the terms of its loss cannot be summed and followed."""
    if not isinstance(terms, Mapping):
        return [f"the terms of {target} are a {type(terms).__name__}: return them by name, as {{'match': loss}}"]
    problems = []
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor):
            problems.append(f"term {name!r} of {target} is a {type(term).__name__}: keep it a tensor")
        elif term.ndim:
            problems.append(f"term {name!r} of {target} has shape {tuple(term.shape)}: reduce it, as by .mean()")
    if not problems and not any(term.requires_grad for term in terms.values()):
        problems.append(f"no term of {target} depends on what it trains: {', '.join(terms) or 'there is none'}")
    for name in weights.keys() - terms.keys():
        problems.append(f"weights() of {target} has {name!r}, which is no term: {', '.join(terms)}")
    return problems


def answer_problems(config: Any, run: Run, inputs: StageInputs, asked: Sequence[str]) -> list[str]:
    """Whether the answers that are kept of the teacher fit into what they may take."""
    variants, data = variants_of(run.spec["augment"]), inputs.data
    if run.spec.get("answers") != "cached" or variants is None or inputs.teacher is None:
        return []
    layers = [layer for layer in asked if layer]
    logits, features = probe(inputs.teacher, Tap(inputs.teacher, layers, data.input_shape), data.input_shape)
    rows, given = len(data.train_index) * variants + len(data.val_index), config["trainer"]["answers_gib"]
    problems, dtype = [], run.spec["answers_dtype"]
    for answer in [*features, *[logits] * ("" in asked)]:
        needed = cache_gib(rows, tuple(answer.shape[1:]), dtype)
        if needed > given:
            size = "x".join(map(str, answer.shape[1:]))
            problems.append(
                f"the teacher's answers take {needed:.3g} GiB ({rows:,} rows of {size} {dtype}), "
                f"trainer.answers_gib is {given}: type trainer.answers_gib={math.ceil(needed)} (with "
                "trainer.answers_at=disk they need not fit in memory), answers_dtype=float16 for half of it, or "
                "answers=online"
            )
    return problems


def meta_net(role: str, spec: dict[str, Any], data: Any, problems: list[str]) -> Any:
    """The network on the meta device; None after adding to `problems` why it cannot be used."""
    name, shape, classes = spec["_target_"], data.input_shape, data.num_classes
    try:
        net, shapes = shaped(spec, shape, classes)
    except Exception as error:
        size = "x".join(map(str, shape))
        given = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "_target_")
        why = str(error) or type(error).__name__
        problems.append(
            f"the {role} {name} does not run on {size} images with {classes} classes: {why}; change {role}.net "
            f"({given or 'no options'}), or type another {role}=NAME"
        )
        return None
    output = shapes.get("")
    if output != (classes,):
        problems.append(
            f"the {role} {name} gives outputs of shape {output} a sample; the data set has {classes} classes, so it "
            f"must give ({classes},): use its num_classes argument"
        )
        return None
    return net
