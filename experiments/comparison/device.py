"""The device that a preset trains on."""

from experiments.comparison.presets import Preset
from experiments.harness import machine
from fairseq_sharnn.errors import UsageError


def check_device(preset: Preset) -> None:
    """Raises UsageError for a GPU preset where there is no GPU: fairseq would train on the CPU and not say so."""
    import torch

    if "--cpu" not in preset.device and not torch.cuda.is_available():
        raise UsageError(f"--preset {preset.name} needs a CUDA device, and torch sees none: take --preset cpu")


def device_in_words(preset: Preset) -> str:
    """What a training runs on."""
    if "--cpu" in preset.device:
        return f"one core of {machine.processor()}"
    import torch

    return torch.cuda.get_device_name(0)
