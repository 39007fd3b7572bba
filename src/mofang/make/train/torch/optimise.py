"""How gradients become steps: the optimisers a recipe may name, by those of PyTorch."""

from __future__ import annotations

import torch
from torch import nn

from mofang.make.recipe import Descent


def optimiser(spec: Descent, net: nn.Module) -> torch.optim.Optimizer:
    """Return what ``spec`` names, for all weights of ``net``; biases and normalisation are not pulled to zero."""
    weights = [value for value in net.parameters() if value.requires_grad]
    # One group of weights is stepped faster than two.
    groups = (
        [{"params": weights}]
        if not spec.weight_decay
        else [
            {"params": [value for value in weights if value.ndim > 1], "weight_decay": spec.weight_decay},
            {"params": [value for value in weights if value.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    match spec.optimiser:
        case "adam":
            return torch.optim.Adam(groups, lr=spec.learning_rate, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=spec.learning_rate, fused=True)
        case _:
            nesterov = spec.optimiser == "nesterov"
            return torch.optim.SGD(
                groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=nesterov and spec.momentum > 0
            )
