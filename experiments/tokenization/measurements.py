"""Measure a trained model, in a process of its own: `python -m experiments.tokenization.measurements OUT RUN`."""

import logging
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import torch
from torch import nn

from experiments.harness.folder import read_json
from experiments.harness.records import from_plain, write_record
from experiments.tokenization import attack, words
from experiments.tokenization.budget import chunk_tokens
from experiments.tokenization.data import read_manifest
from experiments.tokenization.folder import PLAN, StudyFolder
from experiments.tokenization.measuring import steps_of
from experiments.tokenization.plan import Plan, StudyRun
from experiments.tokenization.records import AttackFigures, Parameters, ScaleFigures, WordFigures
from experiments.tokenization.segmentations import OneSegmentation, Segmenter
from fairseq_sharnn.errors import exit_with_one_line
from fairseq_sharnn.evaluation.scale import spelling_cost
from fairseq_sharnn.evaluation.scoring import Scorer

EVALUATION_LANES = 8


class Measurements:
    """The measurements of one run. Each step keeps its figures in a file."""

    def __init__(self, plan: Plan, folder: StudyFolder, run: StudyRun):
        self.plan, self.folder, self.run = plan, folder, run
        self.window = chunk_tokens(plan, read_manifest(folder, run.tokenization))
        self.scorer = Scorer(str(folder.checkpoint(run)), str(folder.data(run.tokenization)), cpu=True)
        # SHA-RNN carries its state through 8 lanes; the windows of a Transformer overlap by half
        streams = self.scorer.task.carries_state
        self.options: Dict[str, Any] = {
            "batch_size": EVALUATION_LANES if streams else None,
            "tokens_per_sample": self.window,
            "context_window": 0 if streams else self.window // 2,
        }

    def measure(self) -> None:
        """Do the steps that have no file yet."""
        work: Dict[str, Callable[[], Any]] = {
            "parameters": self.count_parameters,
            "scale": self.score_test_split,
            "words": self.measure_words,
            "attack": self.attack,
        }
        for step in steps_of(self.run):
            path = self.folder.record(self.run, step)
            if not path.exists():
                begun = time.monotonic()
                figures = work[step]()
                if hasattr(figures, "seconds"):
                    figures = replace(figures, seconds=time.monotonic() - begun)
                write_record(path, figures)

    def count_parameters(self) -> Parameters:
        embedding = count_vocabulary_parameters(self.scorer.model, len(self.scorer.task.target_dictionary))
        return Parameters(embedding, sum(p.numel() for p in self.scorer.model.parameters()) - embedding)

    def score_test_split(self) -> ScaleFigures:
        return ScaleFigures(**self.scorer.scale("test", self._nats()).figures())

    def _nats(self) -> np.ndarray:
        return self.scorer.nats(self.scorer.corpus("test"), **self.options)

    def measure_words(self) -> WordFigures:
        corpus = self.scorer.corpus("test")
        known = words.find_known_tokens(self.scorer, corpus)
        nats = self._nats()
        nats[~known] += [spelling_cost([name]) for name in self.scorer.unknown("test")]
        text = np.fromfile(self.folder.raw("test"), dtype=np.uint8)
        places = words.find_places(text, self.scorer.spans("test"))
        ids, predicted = corpus.ids(np.arange(len(corpus))), words.predict_tokens(self.scorer, corpus, **self.options)
        closed = words.find_closed_words(words.make_speller(self.scorer.task), ids, predicted, places)
        return words.measure_words(nats, predicted == ids, closed, known, places)

    def attack(self) -> AttackFigures:
        scorer, plan = self.scorer, self.plan
        text = attack.take_beginning(self.folder.raw("test").read_bytes(), plan.attack_bytes)
        if self.run.tokenization == "bytes":
            segmenter = OneSegmentation(scorer.task.dictionary)
        else:
            segmenter = Segmenter(scorer.task.codec.tokenizer)
        return AttackFigures(
            bytes=len(text.encode()),
            resegmented=attack.resegment(scorer, segmenter, text, plan.seed, **self.options),
            summed=attack.sum_segmentations(scorer, segmenter, text, self.window, plan.attack_words, plan.best),
            searched=attack.search_segmentations(scorer, segmenter, text, self.window, plan.attack_words),
        )


def count_vocabulary_parameters(model: nn.Module, vocabulary: int) -> int:
    """Parameters of the embeddings, and of a bias over the vocabulary; what the output shares is counted once."""
    counted = {}
    for module in model.modules():
        ours = not type(module).__module__.startswith("torch.")
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.Embedding) or (ours and parameter.shape == (vocabulary,)):
                counted[id(parameter)] = parameter.numel()
    return sum(counted.values())


@exit_with_one_line()
def main() -> None:
    out, tokenization, model = sys.argv[1:]
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")  # torch's, about fairseq's own code
    torch.set_num_threads(1)
    folder = StudyFolder(Path(out))
    plan = from_plain(Plan, read_json(folder.out / PLAN))
    Measurements(plan, folder, StudyRun(tokenization, model)).measure()


if __name__ == "__main__":
    main()
