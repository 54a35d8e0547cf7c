"""Silence for libraries that warn of what nobody asked them for."""

import logging

LOGGERS = ("torchao", "torch.utils._pytree")
"""On a CPU, torchao warns of each of its kernels for a GPU, and torch of how torchao registers its types. transformers
imports it with any model, wherever it is installed."""


def quieten() -> None:
    """Let these loggers say nothing below an error from now on."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
