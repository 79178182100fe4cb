"""How fast a checkpoint writes. `python -m comparison.generation CHECKPOINT TEXT` prints one line of JSON.

SHA-RNN by the hub interface's `sample_bytes`. Other models by fairseq's incremental decoding, one step a byte (fairseq
decodes prompts the same way). Where a model's positions end, the last half of its window is read again and decoding goes on:
the usual sliding window, two steps a byte. A process of its own, so that nothing else is in it.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Dict, Optional

import torch

import fairseq_sharnn  # noqa: F401  (registers what checkpoints name)
from comparison.presets import Preset
from comparison.processes import Processes, reason_of_failure, shown
from comparison.storage import read_json, write_json
from comparison.training import Run


class StepwiseDecoder:
    """One byte at a time through fairseq's `incremental_state`, within `window` positions (None: no end).

    Raises ValueError for a window too short to slide.
    """

    def __init__(self, model, dictionary, window: Optional[int]):
        if window is not None and window < 4:
            raise ValueError(f"a window of {window} positions cannot slide")
        self.model, self.window = model, window
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

    @torch.no_grad()
    def _run(self, stop: int) -> torch.Tensor:
        seen = torch.tensor([self.tokens[self.first : stop]], device=next(self.model.parameters()).device)
        return self.model.decoder(seen, incremental_state=self.state)[0][0, -1]


def seconds_stateless(model, task, prompt: bytes, length: int) -> float:
    """Seconds to write `length` bytes after the prompt has been read."""
    dictionary = task.source_dictionary
    window = None if type(model).__name__ == "LSTMLanguageModel" else task.cfg.tokens_per_sample
    decoder = StepwiseDecoder(model, dictionary, window)
    if window is not None:
        prompt = prompt[-(window - 1) :]  # all that a full window still sees; it slides with the first byte written
    for token in dictionary.encode_bytes(prompt).tolist():
        logits = decoder.step(token)
    start = time.perf_counter()
    for _ in range(length):
        byte = torch.multinomial(logits[dictionary.offset : dictionary.offset + 256].float().softmax(-1), 1).item()
        logits = decoder.step(byte + dictionary.offset)
    return time.perf_counter() - start


def seconds_streaming(hub, prompt: bytes, length: int) -> float:
    """The same by `sample_bytes`: the time with the bytes, less the time of the prompt alone, each the best of three."""

    def timed(count: int) -> float:
        start = time.perf_counter()
        hub.sample_bytes(prompt, length=count, seed=1)
        return time.perf_counter() - start

    pairs = [(timed(length), timed(0)) for _ in range(3)]
    return max(1e-6, min(whole for whole, _ in pairs) - min(prompt_alone for _, prompt_alone in pairs))


def measure(checkpoint: str, text: bytes, prompts, length: int) -> Dict[str, float]:
    """Bytes written a second after prompts of the given lengths, by prompt length."""
    from fairseq import checkpoint_utils

    from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel

    torch.manual_seed(1)
    path = Path(checkpoint)
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([checkpoint])
    streaming = isinstance(models[0], SHARNNLanguageModel)
    model = SHARNNLanguageModel.from_pretrained(str(path.parent), path.name) if streaming else models[0].eval()
    if torch.cuda.is_available() and not cfg.common.cpu:
        model = model.cuda()
    speeds = {}
    for prompt in prompts:
        head = (text * (prompt // max(1, len(text)) + 1))[:prompt]
        taken = seconds_streaming(model, head, length) if streaming else seconds_stateless(model, task, head, length)
        speeds[str(prompt)] = length / taken
    return speeds


def generation_speed(run: Run, preset: Preset, processes: Processes) -> Dict:
    """Measure a run's best checkpoint in a process of its own, once. Returns bytes/s by prompt length, or the reason."""
    path = run.folder / "generation.json"
    record = read_json(path)
    if record is not None:
        return record
    log = run.folder / "generation.log"
    command = [
        *(sys.executable, "-m", "comparison.generation", str(run.checkpoint), str(run.data / "test")),
        *("--bytes", str(preset.generated), "--prompts", *map(str, preset.prompts)),
    ]
    ended = processes.run(command, log)
    lines = [line.partition(" ")[2] for line in log.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line.startswith('{"bytes_per_second"')]
    record = {"command": shown(command), "reason": None, "peak_memory": ended.peak_memory}
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
