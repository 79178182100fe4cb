"""The device that a preset trains on."""

from typing import Dict

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


def device_environment(preset: Preset) -> Dict[str, str]:
    """Variables for all commands of a preset, so that float32 is the same for every model on a GPU.

    torch lets cuDNN's LSTMs use TF32, and matrix products not: in evaluation and generation, which are float32 under
    --amp, only the LSTMs would run on tensor cores.
    """
    return {} if "--cpu" in preset.device else {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
