"""What is known about a GPU without running on it: which LSTM kernel torch takes, and how much memory training needs."""

from typing import Any, NamedTuple, Optional, Tuple

# cuDNN's version as torch counts it: from here on its LSTM takes bfloat16.
BFLOAT16_CUDNN = 91300
# What helps where `refusal` answers.
ANOTHER_TORCH = (
    "install another torch: the newest for a new card; torch 2.5.1 with CUDA 12.4, which has cuDNN 9.1, for one before "
    "compute capability 7.5"
)


class Card(NamedTuple):
    """A GPU: its name, compute capability, number of multiprocessors, and memory in bytes."""

    name: str
    capability: Tuple[int, int]
    processors: int
    memory: int

    @classmethod
    def of(cls, device: Any = None) -> "Card":
        """A CUDA device of this machine (None: the present one)."""
        import torch

        found = torch.cuda.get_device_properties(torch.cuda.current_device() if device is None else device)
        return cls(found.name, (found.major, found.minor), found.multi_processor_count, found.total_memory)

    def __str__(self) -> str:
        major, minor = self.capability
        gib = self.memory / 2**30
        return f"{self.name}, compute capability {major}.{minor}, {self.processors} multiprocessors, {gib:.0f} GiB"


class Training(NamedTuple):
    """What decides the memory of training. kind: type of the activations. bytes_a_parameter: weights, gradients, master
    weights and two moments together.
    """

    lanes: int
    length: int
    kind: str = "float16"
    bytes_a_parameter: int = 16
    checkpoint_activations: bool = False


def refusal(device: Any = "cuda") -> Optional[str]:
    """Why this torch cannot compute on a CUDA device that it sees, in one line; None if it can.

    cuDNN refuses old cards, and torch has kernels for some compute capabilities only. The trial starts CUDA.
    """
    import torch

    try:
        torch.backends.cudnn.version()
        torch.zeros(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return None


def lstm_kernel(kind: str, width: int, lanes: int, processors: int, capability: Tuple[int, int]) -> Tuple[str, str]:
    """Which cuDNN kernel torch chooses for a one-layer LSTM of D = `width`, and why not the persistent one.

    kind: type of the weights. processors, capability: of the card. Returns the name and, where it is the standard
    kernel, the reason. It is the rule in torch's RNN.cpp, read and not measured.
    """
    if width <= 192 and kind != "float64":
        return "persistent small", ""
    reasons = []
    if kind != "float16":
        reasons.append("the persistent kernel needs float16")
    if width > 1024 or width % 128:
        reasons.append("it needs D in multiples of 128 up to 1024")
    if lanes % 8 or lanes > 128:
        reasons.append("it needs lanes in multiples of 8 up to 128")
    if processors < 98:
        reasons.append(f"it needs 98 multiprocessors, and the card has {processors}")
    if capability[1] == 6:
        reasons.append(f"torch does not use it on compute capability {capability[0]}.{capability[1]}")
    return ("standard", f" ({reasons[0]})") if reasons else ("persistent", "")


def lstm_in_words(kind: str, width: int, lanes: int, card: Card, cudnn: int) -> str:
    """What runs a one-layer LSTM, and why not the persistent kernel. cudnn: version as torch counts it."""
    if kind == "bfloat16" and (cudnn < BFLOAT16_CUDNN or card.capability < (8, 0)):
        return (
            "torch's own LSTM, a step at a time (cuDNN's takes bfloat16 from version 9.13 and compute capability 8.0 on): "
            "use --fp16"
        )
    kernel, reason = lstm_kernel(kind, width, lanes, card.processors, card.capability)
    return f"cuDNN's {kernel} kernel{reason}"


def training_bytes(sizes: Any, parameters: int, training: Training) -> int:
    """Estimate of the most memory that training holds, counted from the shapes (docs/speed.md).

    sizes: SHARNNSizes. It leaves out the CUDA context, the libraries' work space and what the allocator cannot use.
    """
    item = {"float16": 2, "bfloat16": 2}.get(training.kind, 4)
    lanes, length, context = training.lanes, training.length, sizes.context
    values = lanes * length * sizes.width  # in one [T, B, D]
    widened = lanes * length * (sizes.boom_width // sizes.width * sizes.width)
    scores = lanes * length * context
    heads = len(sizes.attention_layers)
    # an LSTM's four gates, about 9 values [T, B, D], and Boom's activations with their mask of a byte
    layer = (4 + 9) * values * item + widened * (item + 1)
    # attention weights and their mask, and the mask of the values
    attention = scores * (item + 1) + lanes * context * sizes.width
    if training.checkpoint_activations:
        kept = sizes.layers * values * item + layer + (attention if heads else 0)
    else:
        kept = sizes.layers * layer + heads * attention
    memory = heads * lanes * (context + max(4 * length, context // 2)) * sizes.width * item
    passing = 2 * item * (widened + (scores if heads else 0))  # gradients in the backward pass
    output = lanes * length * sizes.vocab * (item + 8)
    return parameters * training.bytes_a_parameter + kept + memory + passing + output
