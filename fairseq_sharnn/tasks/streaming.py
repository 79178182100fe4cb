"""What the streaming tasks share: lanes, chunks, exact resume and evaluation, whatever the ids stand for."""

import os
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional

import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask
from fairseq.tasks.language_modeling import LanguageModelingTask
from omegaconf import II

from fairseq_sharnn.data.blocks import BlockDataset, BlockIterator
from fairseq_sharnn.data.corpora.base import Corpus, split_path
from fairseq_sharnn.data.sentences import sentence_dataset
from fairseq_sharnn.data.streams.carrier import StreamCarrier, StreamChunk
from fairseq_sharnn.data.streams.dataset import StreamDataset
from fairseq_sharnn.data.streams.iterator import StreamIterator
from fairseq_sharnn.data.streams.lanes import chunk_ends, evaluation_lanes
from fairseq_sharnn.data.streams.plan import TrainingPlan
from fairseq_sharnn.data.streams.training import TrainingStream
from fairseq_sharnn.errors import UsageError

# The author's test evaluation has 8 lanes; so does ours where no batch size is given.
DEFAULT_EVALUATION_LANES = 8


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
    seed: int = II("common.seed")


class StreamingTask(FairseqTask):
    """A corpus of ids, read from its beginning to its end.

    Models that carry state (`decoder.carries_state`) read lanes in order, chunk by chunk; fairseq's stateless models
    read blocks, shuffled in training. Either way evaluation scores every place of the file once. A task says what an
    id is: it brings the dictionary, and `split_file` and `open_corpus` read its files.
    """

    def __init__(self, cfg: StreamingConfig, dictionary: Dictionary, **kwargs):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.carries_state = False
        self.context_length: Optional[int] = None
        self.adaptive_softmax = False

    def split_file(self, folder: str, split: str) -> str:
        """Path of a split in a DATA folder (of the folder itself for ""). Raises UsageError when it is not there."""
        return split_path(folder, split)

    def open_corpus(self, folder: str, split: str) -> Corpus:
        """A split of a DATA folder. Raises UsageError naming the file that is missing or unfit."""
        raise NotImplementedError

    def encode_text(self, text: bytes) -> torch.Tensor:
        """Ids [N] (int64) of a text, for sampling."""
        raise NotImplementedError

    def decode_ids(self, ids: Iterable[int]) -> bytes:
        """The text of ids."""
        raise NotImplementedError

    def show_ids(self, ids: torch.Tensor) -> str:
        """The text of ids, to be read: the </s> at their end is left out, invalid UTF-8 shown as \\xNN."""
        ids = ids.tolist()
        stop = len(ids) - 1 if ids and ids[-1] == self.dictionary.eos() else len(ids)
        return self.decode_ids(ids[:stop]).decode("utf-8", "backslashreplace")

    def drawn_ids(self) -> List[int]:
        """The ids that sampling draws from."""
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
        # Built by train and validate alone, before fairseq lists the data folder: the place to miss it in one line.
        for folder in folders_of(self.cfg.data):
            self.split_file(folder, "")
        if getattr(cfg, "_name", None) == "adaptive_loss":
            self._check_adaptive_loss(cfg)
        elif self.adaptive_softmax and str(getattr(cfg, "_name", None)).endswith("cross_entropy"):
            raise UsageError(
                f"--criterion {cfg._name} does not work on a model with --adaptive-softmax-cutoff: use --criterion "
                "adaptive_loss --ddp-backend legacy_ddp"
            )
        return super().build_criterion(cfg, **kwargs)

    def _check_adaptive_loss(self, cfg) -> None:
        if not self.adaptive_softmax:
            raise UsageError("--criterion adaptive_loss needs a model with --adaptive-softmax-cutoff")
        if cfg.ddp_backend in ("c10d", "pytorch_ddp"):
            raise UsageError(
                f"--criterion adaptive_loss does not work with --ddp-backend {cfg.ddp_backend}, on one device neither: "
                "use --ddp-backend legacy_ddp"
            )

    def load_dataset(self, split: str, combine: bool = False, epoch: int = 1, **kwargs) -> None:
        """Open the file of a split; of several folders, the one whose turn it is in this epoch."""
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

        fairseq's trainer alone passes `grouped_shuffling`, and only for training: that tells the two apart. Other
        datasets (the hub interface's sentences) go fairseq's own way.
        """
        if not isinstance(dataset, Corpus):
            return super().get_batch_iterator(
                dataset, max_tokens=max_tokens, max_sentences=max_sentences, seed=seed, epoch=epoch, **kwargs
            )
        length = self.cfg.tokens_per_sample
        common = _worker(num_shards, shard_id, num_workers, epoch)
        size = _batch_size(max_sentences, max_tokens, length)
        if self.carries_state:
            return self._streams(dataset, length, size, 0, training=grouped_shuffling is not None, **common)
        return self._blocks(dataset, length, size, 0, training=grouped_shuffling is not None, **common)

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

        `context_window`: a streaming model's lanes warm up on that much before their stretch; a stateless model's windows
        of `--tokens-per-sample` overlap by it. (fairseq has taken it off `tokens_per_sample` before.)
        """
        if context_window < 0:
            raise UsageError(f"--context-window must not be negative, but it is {context_window}")
        window = self.cfg.tokens_per_sample + context_window
        common = _worker(num_shards, shard_id, num_workers, epoch=1)
        if self.carries_state:
            batch_size = _batch_size(batch_size, None, window)
            iterator = self._streams(dataset, window, batch_size, context_window, training=False, **common)
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
            size = _batch_size(batch_size, max_tokens or 36000, window)
            iterator = self._blocks(dataset, window - context_window, size, context_window, training=False, **common)
        return iterator.next_epoch_itr(shuffle=False)

    def _streams(
        self, corpus, length, lanes, context, training, num_shards, shard_id, num_workers, epoch
    ) -> StreamIterator:
        """Lanes of all workers together, as one big batch; this worker's part of them."""
        self._check_lengths(length)
        if lanes is None:
            lanes = min(DEFAULT_EVALUATION_LANES, max(1, len(corpus) // num_shards))
        together = lanes * num_shards
        if len(corpus) < together:
            workers = f" on each of {num_shards} workers" if num_shards > 1 else ""
            raise UsageError(
                f"{corpus.path} has {len(corpus)} {corpus.unit}s, fewer than the {together} lanes of --batch-size {lanes}"
                f"{workers}: lower --batch-size"
            )
        mine = slice(shard_id * lanes, (shard_id + 1) * lanes)

        if not training:
            plan = evaluation_lanes(len(corpus), together, context)
            chunks = StreamDataset(corpus, self.dictionary, plan, chunk_ends(plan.columns, length, None), mine)
            return StreamIterator(lambda epoch: chunks, epoch, num_workers)

        def make_plan(epoch: int) -> TrainingPlan:
            jitter = None if self.cfg.no_bptt_jitter else (self.cfg.seed, epoch)
            whole = ((0, len(corpus)),)
            return TrainingPlan(whole, together, length, jitter, 0, len(corpus), corpus.fingerprint())

        keep_state = not self.cfg.no_save_stream_state
        return TrainingStream(
            corpus, self.dictionary, make_plan, mine, self.context_length, keep_state, epoch, num_workers
        )

    def _blocks(self, corpus, length, size, context, training, epoch, **worker) -> BlockIterator:
        """Blocks for a stateless model, in an order of their own in training."""
        if length < 1:
            raise UsageError(f"--tokens-per-sample must be at least 1, but it is {length}")
        blocks = BlockDataset(corpus, self.dictionary, length, context)
        seeds = (self.cfg.seed, epoch) if training else None
        return BlockIterator(blocks, size, seeds, epoch=epoch, **worker)

    def _check_lengths(self, length: int) -> None:
        if length < 1:
            raise UsageError(f"--tokens-per-sample must be at least 1, but it is {length}")
        if self.context_length is not None and self.context_length <= length:
            raise UsageError(
                f"--context-length {self.context_length} is not above --tokens-per-sample {length}: no memory would be "
                "left to attend to; raise the one (for a checkpoint by fairseq-eval-lm's --model-overrides) or lower the "
                "other"
            )

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        stream = sample["net_input"].get("stream")
        if stream is not None:
            stream.carrier.begin_update(update_num)
            self._rebuild_state(stream, model, sample["net_input"]["src_tokens"].device)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    @staticmethod
    def _rebuild_state(stream: StreamChunk, model, device) -> None:
        """After a resume in other lanes: run the model, without gradient and dropout, over what comes before."""
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
        """What the methods borrowed from fairseq's language-modelling task call the configuration."""
        return self.cfg

    def build_dataset_for_inference(self, src_tokens, src_lengths, **kwargs):
        """Sentences for the hub interface; the </s> that its `encode` appends is left out."""
        return sentence_dataset(src_tokens, self.dictionary)

    inference_step = LanguageModelingTask.inference_step


def folders_of(data: Optional[str]) -> List[str]:
    """The DATA folders. Raises UsageError when there is none."""
    if not (data or "").strip(os.pathsep):
        raise UsageError("give the DATA folder that holds the files train, valid and test")
    return [folder for folder in utils.split_paths(data) if folder]


def _batch_size(lines: Optional[int], tokens: Optional[int], length: int) -> Optional[int]:
    """Rows in a batch, from fairseq's --batch-size or else from --max-tokens; None where neither is given."""
    if lines is not None and lines < 1:
        raise UsageError(f"--batch-size must be at least 1, but it is {lines}")
    if lines is None and tokens is not None:
        return max(1, tokens // max(1, length))
    return lines


def _worker(num_shards: int, shard_id: int, num_workers: int, epoch: int) -> Dict[str, int]:
    """This worker's place. Memory-mapped files need no loader process: fairseq's default of one means none."""
    loaders = num_workers if num_workers > 1 else 0
    if not 0 <= shard_id < num_shards:
        raise UsageError(f"--shard-id {shard_id} is not one of the {num_shards} of --num-shards: they count from 0")
    return {"num_shards": num_shards, "shard_id": shard_id, "num_workers": loaders, "epoch": epoch}
