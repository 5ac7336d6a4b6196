"""How the student's signal fares from layer to layer before any training: which initial weights starve it.

python benchmarks/signal_scale.py experiment=paper/mnist recipe=paper dataset.path=DIR
python benchmarks/signal_scale.py student=thin_deeper init=paper

Takes the overrides of run.py. Prints, for 512 training images and the loss on labels, the spread of each layer's
output and the largest gradient of its weights; the learning rate stands below, to compare.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main(overrides: list[str] | None = None) -> int:
    overrides = sys.argv[1:] if overrides is None else overrides
    if overrides and overrides[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    from fitnets.commands import checked
    from fitnets.config import ConfigError

    try:
        config = checked(overrides)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'layer':12} {'output, sd':>12} {'largest gradient':>18}")
    for name, spread, gradient in scales(config):
        print(f"{name:12} {spread:12.1e} {gradient:18.1e}")
    print(f"{config['optimizer']['_target_']}, learning rate {config['optimizer']['lr']}")
    return 0


def scales(config: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(layer, sd of its output, largest absolute gradient of its weights) in the order in which they run."""
    import torch

    from fitnets.assemble import new_net
    from fitnets.data.module import DataModule
    from fitnets.losses.logits import hard_cross_entropy

    data = DataModule(config["dataset"], config["split_seed"], 128, config["seed"], preprocess=config["preprocess"])
    data.setup()
    net = new_net(config["student"]["net"], config["init"]["student"], config["seed"], "student", data)
    spreads: dict[str, float] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda _l, _i, out, name=name: spreads.update({name: out.std().item()}))
    index = data.train_index[:512]
    hard_cross_entropy(net(data.preprocessed(index)), data.visible_labels[index]).backward()
    gradients = {name: net.get_parameter(f"{name}.weight").grad for name in spreads}
    return [(name, spread, float(gradients[name].abs().max())) for name, spread in spreads.items()]  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.exit(main())
