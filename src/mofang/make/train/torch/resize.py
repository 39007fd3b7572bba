"""Layers as wide as given weights: how a network that was pruned is built again.

``network.py`` builds layers as a recipe says, and calls :func:`resize` where the weights say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mofang.make.train.torch.layers import Attention


def resize(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give every layer of ``net`` parameters of the shapes that ``weights`` have under its name, with any values.

    Raises KeyError for a layer without weights. Layers that do not fit together are found out when they compute.
    """
    for name, module in net.named_modules():
        for kind, known in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            shape = weights[f"{name}.{kind}" if name else kind].shape
            if shape != known.shape:
                new = known.new_empty(shape)
                setattr(module, kind, nn.Parameter(new) if isinstance(known, nn.Parameter) else new)
    for module in net.modules():
        _count(module)


def _count(module: nn.Module) -> None:
    """Let ``module`` know how wide its parameters are."""
    match module:
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case nn.Conv2d():
            module.out_channels, module.in_channels = module.weight.shape[:2]
        case nn.BatchNorm2d():
            module.num_features = len(module.running_mean)
        case nn.RNNBase():
            module.hidden_size = module.weight_hh_l0.shape[1]
        case Attention():  # each head stays as wide as it was
            module.heads = module.asks.weight.shape[0] // module.head_width
