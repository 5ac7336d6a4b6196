"""Load what a run left on disk. Needs torch only: no Hydra, no Lightning. Runs no code that the folder brings along."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fitnets.components import build, resolve
from fitnets.data.preprocess import Preprocess
from fitnets.files import problem_with, read_config, read_json

OURS = ("fitnets.models", "torch.nn")


class Trained(nn.Module):
    """A trained network that takes images as the data set has them.

    uint8 (B, C, H, W), which are preprocessed as in training, or floats that are preprocessed already; gives logits
    (B, num_classes). `net` is the network alone, `preprocess` what comes before it.
    """

    def __init__(self, net: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.net = net
        self.preprocess = preprocess

    def __getattr__(self, name: str) -> Any:
        """Of a layer or option of the network by its own name: `student.conv4` is `student.net.conv4`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            x = self.preprocess(x)
        return self.net(x)


def load_student(run_folder: str | Path, trust: Sequence[str] = ()) -> Trained:
    """The trained student of a finished backprop, hint or kd run, in eval mode, on the CPU: a plain torch module.

    After a hint run the layers above the guided one are still untrained. The regressor is not part of it.

    Nothing that the folder says is run: weights are safetensors, the config is plain data, and the network it names
    must be one of FitNets' or of torch.nn. For a network of one's own, `trust` names its module: trust=["my_nets"].

    Raises FileNotFoundError where the folder holds no finished run, ValueError for a teacher's run, for files that are
    not as they were written, and for a network that is not trusted.
    """
    return _load(Path(run_folder), "student", trust)


def load_teacher(run_folder: str | Path, trust: Sequence[str] = ()) -> Trained:
    """The trained teacher of a finished teacher run; otherwise as `load_student`."""
    return _load(Path(run_folder), "teacher", trust)


def _load(folder: Path, role: str, trust: Sequence[str]) -> Trained:
    if not (folder / "result.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished run (no result.json); scripts/runs.py lists those that do")
    weights = f"{role}.safetensors"
    if not (folder / weights).is_file():
        other = "teacher" if role == "student" else "student"
        stage = (read_json(folder / "result.json") or {}).get("stage", "different")
        raise ValueError(f"{folder} is a {stage} run and holds no {role}; use fitnets.load_{other}")
    for name in ("config.yaml", weights, "preprocess.safetensors"):
        if problem := problem_with(folder, name):
            raise ValueError(f"{folder}: {problem}. The command that made it makes it again")
    config, tensors = read_config(folder), tensors_in(folder / weights)
    try:
        spec, facts = config[role]["net"], config["data"]
        shape, classes = tuple(facts["input_shape"]), facts["num_classes"]
        preprocess = Preprocess(facts["preprocess"], tensors_in(folder / "preprocess.safetensors"), facts["scale"])
        largest = max(_whole_numbers([spec, *shape, classes]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/config.yaml is no config of a run: {type(error).__name__} {error}") from error
    if largest > 8 * sum(tensor.numel() for tensor in tensors.values()) + 1024:
        raise ValueError(f"{folder}/config.yaml asks for a network of size {largest:,}; its weights are fewer")
    refuse_code(spec["_target_"], trust, folder)
    try:
        with torch.device("meta"):
            expected = build_net(spec, shape, classes).state_dict()
    except Exception:  # not every network can be built there; the sizes above are bounded
        expected = {}
    else:
        if problem := _difference(expected, tensors):
            raise ValueError(f"{folder / weights} does not fit the network of config.yaml: {problem}")
    try:
        net = build_net(spec, shape, classes)
        net.load_state_dict(tensors, strict=True)
    except Exception as error:
        raise ValueError(f"{folder}/config.yaml: {spec['_target_']} cannot be built: {error}") from error
    return Trained(net, preprocess).eval()


def tensors_in(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ValueError for what is none."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from error


def refuse_code(target: Any, trust: Sequence[str], folder: Path) -> None:
    """Raises ValueError unless a target makes a network, and comes from FitNets, torch.nn or a trusted module."""
    trusted = [*OURS, *trust]
    home = next((place for place in trusted if str(target).startswith(f"{place}.")), None)
    if home is None:
        module = str(target).rpartition(".")[0]
        raise ValueError(
            f"{folder}/config.yaml builds its network with {target}, which is code of somebody's own. Where you know "
            f"it, type trust=[{module!r}]; trusted are: {', '.join(trusted)}"
        )
    try:
        made = resolve(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder}/config.yaml builds its network with {target}: {error}") from error
    lives = str(getattr(made, "__module__", ""))
    own = lives == home or lives.startswith(f"{home}.")  # and not what a module has imported: my_nets.os.system
    is_class = inspect.isclass(made) and issubclass(made, nn.Module)
    if home in OURS:
        fits = is_class or (own and inspect.isfunction(made) and inspect.signature(made).return_annotation is nn.Module)
    else:
        fits = is_class or (own and callable(made))
    if not fits:
        raise ValueError(f"{folder}/config.yaml builds its network with {target}, which makes no network of {home}")


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _whole_numbers(entry)
    else:
        yield abs(value) if isinstance(value, int) else 0


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    missing, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = [name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape]
    lists = {"missing": missing, "unexpected": more, "of another shape": sorted(other)}
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in lists.items() if names) or None


def build_net(spec: Mapping[str, Any], input_shape: Any, num_classes: int) -> nn.Module:
    """A network from its config; every network component takes `input_shape` (C, H, W) and `num_classes`."""
    return build(spec, input_shape=tuple(input_shape), num_classes=num_classes)
