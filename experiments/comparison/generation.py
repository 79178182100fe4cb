"""How fast a checkpoint writes. `python -m experiments.comparison.generation CHECKPOINT TEXT` prints one line of JSON.

All models write through fairseq's incremental decoding, one step for each byte, in the same loop (SHA-RNN's `sample_bytes`
takes the same steps). A Transformer's positions end with its window; then the last half of it is read again, the usual
sliding window, which costs two steps for each byte. Only the loop over bytes is timed. It runs in a process of its own, so
that nothing else takes its time or memory.
"""

import argparse
import json
import logging
import sys
import time
from statistics import median
from typing import Dict, List, Sequence

import torch

from experiments.comparison.device import device_environment
from experiments.comparison.records import Generation
from experiments.comparison.training_run import TrainingRun
from experiments.harness.decoding import StepwiseDecoder
from experiments.harness.processes import USER_DIR, Processes, as_typed, read_log, reason_of_failure
from experiments.harness.records import read_record, write_record
from fairseq_sharnn.registration import register

ROUNDS = 5


def read_prompt(decoder: StepwiseDecoder, dictionary, prompt: bytes) -> torch.Tensor:
    """Feed a prompt, which must not be empty; returns the logits [V] of what follows."""
    if decoder.window is not None:
        prompt = prompt[-(decoder.window - 1) :]  # all that a full window sees; the first written byte makes it slide
    for token in dictionary.encode_bytes(prompt).tolist():
        logits = decoder.step(token)
    return logits


def seconds_to_write(decoder: StepwiseDecoder, logits: torch.Tensor, dictionary, length: int) -> float:
    """Seconds in which `length` bytes are sampled, one by one. logits: [V], of the first."""
    start = time.perf_counter()
    for _ in range(length):
        byte = torch.multinomial(logits[dictionary.offset : dictionary.offset + 256].float().softmax(-1), 1).item()
        logits = decoder.step(byte + dictionary.offset)
    return time.perf_counter() - start


def measure(
    checkpoint: str, text: bytes, prompts: Sequence[int], length: int, user_dir: str = str(USER_DIR)
) -> Dict[str, float]:
    """Bytes written a second, by the length of the prompt: medians of rounds over all prompts."""
    from fairseq import checkpoint_utils, utils

    register()
    utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    torch.manual_seed(1)
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([checkpoint])
    model.prepare_for_inference_(cfg)
    if torch.cuda.is_available() and not cfg.common.cpu:
        model = model.cuda()
    # SHA-RNN and the LSTM have no positions that could end
    window = task.cfg.tokens_per_sample if type(model).__name__ == "TransformerLanguageModel" else None
    dictionary = task.source_dictionary
    begun = {}
    for prompt in prompts:
        beginning = (text * (prompt // max(1, len(text)) + 1))[:prompt]
        decoder = StepwiseDecoder(model, dictionary.eos(), window)
        begun[prompt] = decoder, read_prompt(decoder, dictionary, beginning)
    taken: Dict[int, List[float]] = {prompt: [] for prompt in prompts}
    for _ in range(ROUNDS):
        for prompt, (decoder, logits) in begun.items():
            taken[prompt].append(seconds_to_write(decoder.fork(), logits, dictionary, length))
    return {str(prompt): length / median(seconds) for prompt, seconds in taken.items()}


def read_generation(run: TrainingRun) -> Generation:
    """What was measured of a run; empty if nothing was."""
    return read_record(Generation, run.folder / "generation.json") or Generation()


def generation_speed(run: TrainingRun, processes: Processes) -> bool:
    """Measure a run's best checkpoint in a process of its own and record it; False if that was done already.

    Without a checkpoint (in a folder that has only records) nothing is measured.
    """
    path = run.folder / "generation.json"
    if path.exists() or not run.checkpoint.exists():
        return False
    log = run.folder / "generation.log"
    command = [
        *(sys.executable, "-m", "experiments.comparison.generation", str(run.checkpoint), str(run.data / "test")),
        *("--bytes", str(run.preset.generated), "--prompts", *map(str, run.preset.prompts)),
    ]
    if run.job.contestant.user_dir != USER_DIR:
        command += ["--user-dir", str(run.job.contestant.user_dir)]
    environment = {
        **processes.environment,
        **device_environment(run.preset),
        **dict(run.job.contestant.environment),
    }
    ended = processes.run(command, log, environment)
    printed = [line for line in read_log(log) if line.startswith('{"bytes_per_second"')]
    typed = as_typed(command, environment)
    if ended.code != 0 or not printed:
        record = Generation(typed, reason_of_failure(log, ended.code), ended.peak_memory)
    else:
        record = Generation(typed, None, ended.peak_memory, json.loads(printed[-1])["bytes_per_second"])
    write_record(path, record)
    return True


def main() -> None:
    """Print bytes written a second after each prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("text", help="file whose first bytes are the prompts")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1000, 4000], help="bytes of each prompt")
    parser.add_argument("--bytes", type=int, default=256, help="bytes to write after each prompt")
    parser.add_argument("--user-dir", default=str(USER_DIR), help="where the model is registered")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    with open(args.text, "rb") as file:
        text = file.read(max(args.prompts))
    print(json.dumps({"bytes_per_second": measure(args.checkpoint, text, args.prompts, args.bytes, args.user_dir)}))


if __name__ == "__main__":
    main()
