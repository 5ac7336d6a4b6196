"""How the student's signal fares from layer to layer before any training: which initial weights starve it.

python scripts/signal_scale.py experiment=paper/mnist recipe=paper dataset.path=DIR
python scripts/signal_scale.py student=thin_deeper init=paper

Takes the overrides of run.py. Prints, for 512 training images and the loss on labels, the spread of each layer's
output and the largest gradient of its weights; the learning rate stands below, to compare.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main(overrides: list[str] | None = None) -> int:
    overrides = sys.argv[1:] if overrides is None else overrides
    if overrides and overrides[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from fitnets.check import ConfigError, check_config

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg: Any = OmegaConf.to_container(compose("config", overrides), resolve=True)
    if problems := check_config(cfg):
        print(ConfigError(problems), file=sys.stderr)
        return 2
    print(f"{'layer':12} {'output, sd':>12} {'largest gradient':>18}")
    for name, spread, gradient in scales(cfg):
        print(f"{name:12} {spread:12.1e} {gradient:18.1e}")
    print(f"{cfg['optimizer']['_target_']}, learning rate {cfg['optimizer']['lr']}")
    return 0


def scales(cfg: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(layer, sd of its output, largest absolute gradient of its weights) in the order in which they run."""
    import torch

    from fitnets.assemble import new_net
    from fitnets.data.module import DataModule
    from fitnets.losses import hard_cross_entropy

    data = DataModule(cfg["dataset"], cfg["split_seed"], 128, cfg["seed"], preprocess=cfg["preprocess"])
    data.setup()
    net = new_net(cfg["student"]["net"], cfg["init"]["student"], cfg["seed"], "student", data)
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
