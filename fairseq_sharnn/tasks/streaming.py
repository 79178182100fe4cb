"""What the streaming tasks share: lanes, chunks, exact resume and evaluation, of bytes or of tokens."""

import os
from dataclasses import dataclass, field
from typing import List, Optional

import torch
from fairseq import utils
from fairseq.data import Dictionary, iterators
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask
from fairseq.tasks.language_modeling import LanguageModelingTask
from omegaconf import II

from fairseq_sharnn.compat.option_checks import check_criterion
from fairseq_sharnn.data.blocks import BlockDataset, BlockIterator
from fairseq_sharnn.data.codecs import Codec
from fairseq_sharnn.data.corpora.base import FAIRSEQS_SPLIT_OPTIONS, Corpus, split_path
from fairseq_sharnn.data.sentences import sentence_dataset
from fairseq_sharnn.data.streams.carrier import StreamCarrier, StreamChunk
from fairseq_sharnn.data.streams.opening import (
    DEFAULT_LANES,
    TrainingOptions,
    Worker,
    evaluation_stream,
    training_stream,
)
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings, check_warmup, settings_of
from fairseq_sharnn.evaluation.learning import LEARNING, LearningBatches, LearningIterator


@dataclass
class StreamingConfig(FairseqDataclass):
    data: Optional[str] = field(default=None, metadata={"help": "DATA folder (colon-separated folders: one an epoch)"})
    tokens_per_sample: int = field(
        default=1024, metadata={"help": "length of a chunk of truncated BPTT (or of a stateless model's window)"}
    )
    no_bptt_jitter: bool = field(
        default=False, metadata={"help": "train on chunks of equal length instead of the paper's varied ones"}
    )
    add_bos_token: bool = field(default=False, metadata={"help": "not used: streams start from </s>"})
    max_target_positions: Optional[int] = field(
        default=None, metadata={"help": "longest window of a stateless model (default: --tokens-per-sample)"}
    )
    no_save_stream_state: bool = field(
        default=False,
        metadata={"help": "leave LSTM state and memory out of checkpoints; a resume rebuilds them by reading back"},
    )
    dynamic_lr: float = field(
        default=0.0,
        metadata={
            "help": "evaluation only: dynamic evaluation, in which the weights learn at this rate from each chunk after it "
            "is scored (0: off)"
        },
    )
    dynamic_optimizer: str = field(
        default="adam", metadata={"help": "rule of dynamic evaluation: adam, rms (as published) or sgd"}
    )
    dynamic_decay: float = field(
        default=0.0, metadata={"help": "part of the change of the weights that each step of dynamic evaluation undoes"}
    )
    dynamic_clip: float = field(
        default=0.25, metadata={"help": "largest norm of a gradient in dynamic evaluation (0: any)"}
    )
    seed: int = II("common.seed")


class StreamingTask(FairseqTask):
    """A corpus of ids, read from its beginning to its end.

    Models that carry state (`decoder.carries_state`) read lanes in order, chunk by chunk. fairseq's stateless models
    read blocks, which training shuffles. For both, evaluation scores every place of the file once. A subclass defines
    what an id is: its dictionary, its files (`split_file`, `open_corpus`) and its text (`codec`).
    """

    split_options = FAIRSEQS_SPLIT_OPTIONS  # what errors name; a script that has others sets them

    def __init__(self, cfg: StreamingConfig, dictionary: Dictionary, **kwargs):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.carries_state = False
        self.context_length: Optional[int] = None
        self.adaptive_softmax = False
        self.dynamic = settings_of(cfg)

    def split_file(self, folder: str, split: str) -> str:
        """Path of a split in a DATA folder (of the folder itself for ""). Raises UsageError when it is not there."""
        return split_path(folder, split, options=self.split_options)

    def open_corpus(self, folder: str, split: str) -> Corpus:
        """A split of a DATA folder. Raises UsageError that names the file that is missing or damaged."""
        raise NotImplementedError

    @property
    def codec(self) -> Codec:
        """Text to ids and back, for sampling. Raises UsageError where the tokenizer of the DATA folder is damaged."""
        raise NotImplementedError

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        self.carries_state = getattr(model.decoder, "carries_state", False)
        self.context_length = model.decoder.network.sizes.context if self.carries_state else None
        self.adaptive_softmax = getattr(model.decoder, "adaptive_softmax", None) is not None
        return model

    def build_criterion(self, cfg, **kwargs):
        # Only train and validate build one, before fairseq lists the data folder. So a missing folder gets one line here.
        for folder in folders_of(self.cfg.data):
            self.split_file(folder, "")
        check_criterion(cfg, self.adaptive_softmax)
        return super().build_criterion(cfg, **kwargs)

    def load_dataset(self, split: str, combine: bool = False, epoch: int = 1, **kwargs) -> None:
        """Open the file of a split. Of several folders, epochs take turns."""
        folders = folders_of(self.cfg.data)
        self.datasets[split] = self.open_corpus(folders[(epoch - 1) % len(folders)], split)

    def get_batch_iterator(
        self,
        dataset,
        max_tokens=None,
        max_sentences=None,
        seed=1,
        num_shards=1,
        shard_id=0,
        num_workers=0,
        epoch=1,
        grouped_shuffling=None,
        **kwargs,
    ):
        """fairseq's iterator over a corpus, for training or for one evaluating pass.

        Only fairseq's trainer passes `grouped_shuffling`, and only for training, so that is how to know. Other datasets
        (the hub interface's sentences) are left to fairseq.
        """
        if not isinstance(dataset, Corpus):
            return super().get_batch_iterator(
                dataset, max_tokens=max_tokens, max_sentences=max_sentences, seed=seed, epoch=epoch, **kwargs
            )
        length = self.cfg.tokens_per_sample
        worker = Worker.of(num_shards, shard_id, num_workers)
        size = _batch_size(max_sentences, max_tokens, length)
        self._check_length(length)
        training = grouped_shuffling is not None
        dynamic = STATIC if training else self._dynamic(worker)
        if not self.carries_state:
            seed = self.cfg.seed if training else None
            blocks = _blocks(dataset, self.dictionary, length, 0, size, seed, epoch, worker)
            return LearningIterator(blocks, dynamic) if dynamic.learns else blocks
        if training:
            options = TrainingOptions(
                length,
                seed=None if self.cfg.no_bptt_jitter else self.cfg.seed,
                warmup=self.context_length,
                keep_state=not self.cfg.no_save_stream_state,
            )
            return training_stream(dataset, self.dictionary, options, size, epoch, worker)
        stream = evaluation_stream(dataset, self.dictionary, length, size, 0, worker, dynamic.learns)
        return LearningIterator(stream, dynamic) if dynamic.learns else stream

    def eval_lm_dataloader(
        self,
        dataset,
        max_tokens: Optional[int] = 36000,
        batch_size: Optional[int] = None,
        max_positions: Optional[int] = None,
        num_shards: int = 1,
        shard_id: int = 0,
        num_workers: int = 1,
        data_buffer_size: int = 10,
        context_window: int = 0,
    ):
        """One pass over a corpus for fairseq-eval-lm.

        `context_window`: how much a streaming model's lanes read before their stretch to warm up, or by how much a
        stateless model's windows of `--tokens-per-sample` overlap. (fairseq has subtracted it from `tokens_per_sample`.)
        With dynamic evaluation the model that scores the samples learns from each of them.
        """
        if context_window < 0:
            raise UsageError(f"--context-window must not be negative, but it is {context_window}")
        window = self.cfg.tokens_per_sample + context_window
        self._check_length(window)
        worker = Worker.of(num_shards, shard_id, num_workers)
        dynamic = self._dynamic(worker)
        iterator: iterators.EpochBatchIterator
        if self.carries_state:
            lanes = _batch_size(batch_size, None, window)
            iterator = evaluation_stream(
                dataset, self.dictionary, window, lanes, context_window, worker, dynamic.learns
            )
            if dynamic.learns:
                check_warmup(context_window, iterator.dataset.plan.lanes, "--batch-size")
        else:
            if context_window >= window:
                raise UsageError(
                    f"--context-window {context_window} leaves nothing to score of --tokens-per-sample {window}: "
                    "for a stateless model the window includes its context"
                )
            if max_positions is not None and window > max_positions:
                raise UsageError(
                    f"--tokens-per-sample {window} is more than the {max_positions} positions of the model: lower it"
                )
            if dynamic.learns and batch_size is None:  # fairseq's 36000 tokens would be one step for a small file
                batch_size = DEFAULT_LANES
            size = _batch_size(batch_size, max_tokens or 36000, window)
            block = window - context_window
            iterator = _blocks(dataset, self.dictionary, block, context_window, size, None, 1, worker)
        batches = iterator.next_epoch_itr(shuffle=False)
        return iterators.CountingIterator(LearningBatches(batches, dynamic)) if dynamic.learns else batches

    def _dynamic(self, worker: Worker) -> DynamicSettings:
        """The settings of evaluation. Raises UsageError where several workers would each learn from a part of the file."""
        if self.dynamic.learns and worker.num_shards > 1:
            raise UsageError(
                f"--dynamic-lr learns from the whole file in its order, but --num-shards {worker.num_shards} cuts it into "
                "parts: leave out --num-shards and --shard-id"
            )
        return self.dynamic

    def _check_length(self, length: int) -> None:
        """Raises UsageError for a chunk length, or window, that cannot be."""
        if length < 1:
            raise UsageError(f"--tokens-per-sample must be at least 1, but it is {length}")
        if self.context_length is not None and self.context_length <= length:
            raise UsageError(
                f"--context-length {self.context_length} is not above --tokens-per-sample {length}: no memory would be "
                "left to attend to; raise the first (for a checkpoint: fairseq-eval-lm's --model-overrides) or lower the "
                "second"
            )

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        stream = sample["net_input"].get("stream")
        if stream is not None:
            stream.carrier.begin_update(update_num)
            self._rebuild_state(stream, model, sample["net_input"]["src_tokens"].device)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(self, sample, model, criterion):
        """With dynamic evaluation (fairseq-validate), the forward pass that scores the sample is also learned from."""
        learning = sample.get(LEARNING) if isinstance(sample, dict) else None
        if learning is None:
            return super().valid_step(sample, model, criterion)
        with learning.batch(model, sample["ntokens"]) as total:
            loss, sample_size, logging_output = criterion(model, sample)
            total.append(loss.sum())
        return loss.detach(), sample_size, logging_output

    @staticmethod
    def _rebuild_state(stream: StreamChunk, model, device) -> None:
        """After a resume in other lanes: run the model over what comes before, without gradient and dropout."""
        inputs = stream.carrier.inputs_to_rebuild(stream.index)
        if inputs is None:
            return
        model.eval()
        scratch, index = StreamCarrier(), 0
        with torch.no_grad():
            for index, tokens in enumerate(inputs):
                model(tokens.to(device), src_lengths=None, stream=StreamChunk(index, index == 0, scratch))
        stream.carrier.adopt(scratch, index + 1, stream.index)

    def max_positions(self):
        return None

    @property
    def args(self):
        """The configuration, under the name that fairseq's `inference_step` uses."""
        return self.cfg

    def build_dataset_for_inference(self, src_tokens, src_lengths, **kwargs):
        """Sentences for the hub interface, without the </s> that its `encode` appends."""
        return sentence_dataset(src_tokens, self.dictionary)

    inference_step = LanguageModelingTask.inference_step


def folders_of(data: Optional[str]) -> List[str]:
    """The DATA folders. Raises UsageError when there is none."""
    if not (data or "").strip(os.pathsep):
        raise UsageError("give the DATA folder that holds the files train, valid and test")
    folders = [folder for folder in utils.split_paths(data) if folder]
    if os.path.isdir(data) and not all(os.path.isdir(folder) for folder in folders):
        raise UsageError(
            f"DATA {data} has a colon, which separates folders, so it would be read as {' and '.join(folders)}: rename "
            "the folder, or give a link to it whose name has no colon"
        )
    return folders


def _batch_size(lines: Optional[int], tokens: Optional[int], length: int) -> Optional[int]:
    """Rows in a batch, from fairseq's --batch-size or else from --max-tokens. None if neither is given."""
    if lines is not None and lines < 1:
        raise UsageError(f"--batch-size must be at least 1, but it is {lines}")
    if lines is None and tokens is not None:
        return max(1, tokens // max(1, length))
    return lines


def _blocks(
    corpus: Corpus,
    dictionary: Dictionary,
    block: int,
    context: int,
    size: Optional[int],
    seed: Optional[int],
    epoch: int,
    worker: Worker,
) -> BlockIterator:
    """Blocks for a stateless model, `size` in a batch: in file order, or in the order that seed and epoch decide."""
    dataset = BlockDataset(corpus, dictionary, block, context)
    seeds = None if seed is None else (seed, epoch)
    return BlockIterator(dataset, size, seeds, epoch=epoch, **worker._asdict())
