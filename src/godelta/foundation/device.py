"""The CPU or the GPU: which one a potential runs on."""

import logging

from godelta.foundation.settings import Device

log = logging.getLogger(__name__)


def resolve_device(asked: Device) -> str:
    """`cpu` or `cuda`; where cuda is asked for and torch sees no GPU, one line says so and it is cpu."""
    if asked == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        log.warning("torch %s sees no GPU here: the foundation runs on the CPU", torch.__version__)
    return "cpu"
