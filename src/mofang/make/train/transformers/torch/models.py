"""Language models as PyTorch modules, from a Hugging Face folder or from a GGUF file.

No code that lies in a folder is run, nothing is fetched, and weights are read from safetensors or GGUF alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from mofang.base.domain.errors import InvalidModel

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
"""The kinds that are known well enough to be trained, and to be written as GGUF."""
_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load(folder: Path) -> Any:
    """Return the ``...ForCausalLM`` in ``folder``, in single precision and evaluation mode. Raises InvalidModel."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    files = sorted(folder.glob("*.gguf"))
    source = {"gguf_file": files[0].name} if files else {}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **source, **_SAFE)
        check(config)
        auto = transformers.AutoModelForCausalLM
        model = auto.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **source, **_SAFE)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidModel(
            f"transformers {transformers.__version__} cannot read the language model: {first[:300]}",
            hint="push the folder that `save_pretrained` wrote, with safetensors, or one GGUF file",
        ) from error
    return model.eval()


def check(config: Any) -> None:
    """Raise InvalidModel for a model whose parts are not all known here."""
    kind = str(config.model_type)
    if kind not in ARCHITECTURES:
        raise InvalidModel(
            f"the language model is of the kind {kind!r}, which is not known here",
            hint=f"known are {', '.join(ARCHITECTURES)}",
        )
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise InvalidModel(f"the language model stretches its positions ({rope['rope_type']}), which is not known here")
    if getattr(config, "use_sliding_window", kind == "mistral") and getattr(config, "sliding_window", None):
        raise InvalidModel("the language model looks back through a sliding window, which is not known here")
    if getattr(config, "mlp_bias", False) or (kind != "qwen2" and getattr(config, "attention_bias", False)):
        raise InvalidModel("the language model has biases where others of its kind have none")


def score(model: Any, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return ln(probability) of every token of each row but its first, as the model itself computes it."""
    found = []
    with torch.no_grad():
        for row in rows:
            tokens = torch.tensor([row])
            likely = torch.log_softmax(model(tokens).logits[0, :-1].float(), dim=-1)
            found.append(likely.gather(1, tokens[0, 1:, None])[:, 0].tolist())
    return found
