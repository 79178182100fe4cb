"""What is measured on a trained model, each step kept as a file of its own."""

import os
import time
from typing import Callable, Dict

import numpy as np
import torch

from experiments.tokenization import attack, words
from experiments.tokenization.plan import Folder, Plan, Run, read_json, write_json
from experiments.tokenization.segmentations import OneSegmentation, Segmenter
from experiments.tokenization.texts import window_of
from experiments.tokenization.training import CHECKPOINT
from fairseq_sharnn.evaluation.scale import spelling_cost
from fairseq_sharnn.evaluation.scoring import Scorer

EVALUATION_LANES = 8


class Analysis:
    """The measurements of a run; the model is loaded when the first one is not there yet."""

    def __init__(self, plan: Plan, folder: Folder, run: Run, about: Dict):
        self.plan, self.folder, self.run, self.about = plan, folder, run, about
        self.window = window_of(plan, about)
        self._scored = None

    @property
    def scored(self) -> Scorer:
        if self._scored is None:
            torch.set_num_threads(1)
            checkpoint = os.path.join(self.folder.run(self.run), CHECKPOINT)
            self._scored = Scorer(checkpoint, self.folder.data(self.run.tokenization), cpu=True)
        return self._scored

    @property
    def options(self) -> Dict:
        """SHA-RNN carries its state through 8 lanes; a Transformer's windows overlap by half."""
        stateless = not self.scored.task.carries_state
        overlap = self.window // 2 if stateless else 0
        return {
            "batch_size": None if stateless else EVALUATION_LANES,
            "tokens_per_sample": self.window,
            "context_window": overlap,
        }

    def _step(self, name: str, measure: Callable[[], Dict]) -> None:
        path = self.folder.result(self.run, name)
        if not os.path.exists(path):
            started = time.monotonic()
            figures = measure()
            write_json(path, {"seconds": time.monotonic() - started, **figures})

    def scale(self) -> None:
        """The test split on one scale."""
        self._step("scale", lambda: self.scored.scale("test", self._nats()).figures())

    def _nats(self):
        return self.scored.nats(self.scored.corpus("test"), **self.options)

    def inside_words(self) -> None:
        def measure():
            corpus = self.scored.corpus("test")
            known = words.known_tokens(self.scored, corpus)
            nats = self._nats()
            nats[~known] += [spelling_cost([name]) for name in self.scored.unknown("test")]
            text = np.fromfile(self.folder.raw("test"), dtype=np.uint8)
            places = words.places_of(text, self.scored.spans("test"))
            ids, guesses = corpus.ids(np.arange(len(corpus))), words.guesses_of(self.scored, corpus, **self.options)
            closed = words.closed_words(words.speller(self.scored.task), ids, guesses, places)
            return words.inside_words(nats, guesses == ids, closed, known, places)

        self._step("words", measure)

    def attack(self) -> None:
        """Pieces, and bytes as the control."""
        if self.run.tokenization != "words":
            self._step("attack", self._attack)

    def _attack(self) -> Dict:
        with open(self.folder.raw("test"), "rb") as file:
            text = attack.beginning(file.read(), self.plan.attack_bytes)
        task, plan = self.scored.task, self.plan
        bytes_ = self.run.tokenization == "bytes"
        segmenter = OneSegmentation(task.dictionary) if bytes_ else Segmenter(task.codec.tokenizer)
        return {
            "bytes": len(text.encode()),
            "resegmented": attack.resegmented(self.scored, segmenter, text, plan.seed, **self.options),
            "summed": attack.summed(self.scored, segmenter, text, self.window, plan.attack_words, plan.best),
            "searched": attack.searched(self.scored, segmenter, text, self.window, plan.attack_words),
        }


def analyse(plan: Plan, folder: Folder, run: Run, about: Dict) -> None:
    analysis = Analysis(plan, folder, run, about)
    analysis.scale()
    analysis.inside_words()
    analysis.attack()


def results_of(folder: Folder, run: Run) -> Dict[str, Dict]:
    """Everything measured on a run."""
    steps = ("training", "scale", "words", "attack")
    paths = {step: folder.result(run, step) for step in steps}
    return {step: read_json(path) for step, path in paths.items() if os.path.exists(path)}
