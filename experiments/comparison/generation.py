"""How fast a checkpoint writes. `python -m experiments.comparison.generation CHECKPOINT TEXT` prints one line of JSON.

All models by fairseq's incremental decoding, one step a byte, and by the same loop; SHA-RNN's `sample_bytes` takes the same
steps. Where a Transformer's positions end, the last half of its window is read again and decoding goes on: the usual sliding
window, two steps a byte. Only the loop over bytes is timed. A process of its own, so that nothing else is in it.
"""

import argparse
import copy
import json
import logging
import sys
import time
from statistics import median
from typing import Dict, List, Optional

import torch

import fairseq_sharnn  # noqa: F401  (registers what checkpoints name)
from experiments.comparison.training_run import Run
from experiments.harness.folder import read_json, write_json
from experiments.harness.processes import Processes, read_log, reason_of_failure, shown

ROUNDS = 5


class StepwiseDecoder:
    """One byte at a time through fairseq's `incremental_state`, within `window` positions (None: no end).

    Raises ValueError for a window too short to slide.
    """

    def __init__(self, model, dictionary, window: Optional[int]):
        if window is not None and window < 4:
            raise ValueError(f"a window of {window} positions cannot slide")
        self.model, self.window = model, window
        self.device = next(model.parameters()).device
        self.tokens = [dictionary.eos()]
        self._begin(0)
        self._run(1)

    def _begin(self, first: int) -> None:
        self.state: Dict = {}
        self.first = first

    def step(self, token: int) -> torch.Tensor:
        """Feed one more token; logits [V] of the next."""
        self.tokens.append(token)
        if self.window is not None and len(self.tokens) - self.first > self.window:
            self._begin(len(self.tokens) - self.window // 2)
            for stop in range(self.first + 1, len(self.tokens)):
                self._run(stop)
        return self._run(len(self.tokens))

    def fork(self) -> "StepwiseDecoder":
        """One that goes on from here by itself."""
        twin = copy.copy(self)
        twin.state, twin.tokens = copy.deepcopy(self.state), list(self.tokens)
        return twin

    @torch.no_grad()
    def _run(self, stop: int) -> torch.Tensor:
        # a model with positions counts the tokens; one that only has a state takes the last
        first = self.first if self.window is not None else stop - 1
        seen = torch.tensor([self.tokens[first:stop]], device=self.device)
        return self.model.decoder(seen, incremental_state=self.state)[0][0, -1]


def read_prompt(decoder: StepwiseDecoder, dictionary, prompt: bytes) -> torch.Tensor:
    """Feed a prompt, not empty; logits [V] of what follows."""
    if decoder.window is not None:
        prompt = prompt[-(decoder.window - 1) :]  # all that a full window still sees; the first byte written slides it
    for token in dictionary.encode_bytes(prompt).tolist():
        logits = decoder.step(token)
    return logits


def seconds_to_write(decoder: StepwiseDecoder, logits: torch.Tensor, dictionary, length: int) -> float:
    """Seconds in which `length` bytes are sampled, one by one, beginning with `logits` [V]."""
    start = time.perf_counter()
    for _ in range(length):
        byte = torch.multinomial(logits[dictionary.offset : dictionary.offset + 256].float().softmax(-1), 1).item()
        logits = decoder.step(byte + dictionary.offset)
    return time.perf_counter() - start


def measure(checkpoint: str, text: bytes, prompts, length: int) -> Dict[str, float]:
    """Bytes written a second after prompts of the given lengths, by prompt length: medians of rounds over all prompts."""
    from fairseq import checkpoint_utils

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
        head = (text * (prompt // max(1, len(text)) + 1))[:prompt]
        decoder = StepwiseDecoder(model, dictionary, window)
        begun[prompt] = decoder, read_prompt(decoder, dictionary, head)
    taken: Dict[int, List[float]] = {prompt: [] for prompt in prompts}
    for _ in range(ROUNDS):
        for prompt, (decoder, logits) in begun.items():
            taken[prompt].append(seconds_to_write(decoder.fork(), logits, dictionary, length))
    return {str(prompt): length / median(seconds) for prompt, seconds in taken.items()}


def generation_speed(run: Run, processes: Processes) -> Dict:
    """Measure a run's best checkpoint in a process of its own, once. Returns bytes/s by prompt length, or the reason."""
    path = run.folder / "generation.json"
    record = read_json(path)
    if record is not None:
        return record
    if not run.checkpoint.exists():  # a folder made of records alone
        return {"reason": f"{run.checkpoint} is gone"}
    log = run.folder / "generation.log"
    command = [
        *(sys.executable, "-m", "experiments.comparison.generation", str(run.checkpoint), str(run.data / "test")),
        *("--bytes", str(run.preset.generated), "--prompts", *map(str, run.preset.prompts)),
    ]
    environment = {**processes.environment, **dict(run.job.contestant.environment)}
    ended = processes.run(command, log, environment)
    found = [line for line in read_log(log) if line.startswith('{"bytes_per_second"')]
    record = {"command": shown(command, environment), "reason": None, "peak_memory": ended.peak_memory}
    if ended.code != 0 or not found:
        record["reason"] = reason_of_failure(log, ended.code)
    else:
        record.update(json.loads(found[-1]))
    write_json(path, record)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("text", help="file whose first bytes are the prompts")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--bytes", type=int, default=256, help="bytes to write after each")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    with open(args.text, "rb") as file:
        text = file.read(max(args.prompts))
    print(json.dumps({"bytes_per_second": measure(args.checkpoint, text, args.prompts, args.bytes)}))


if __name__ == "__main__":
    main()
