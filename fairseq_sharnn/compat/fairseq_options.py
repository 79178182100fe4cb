"""Each of fairseq's own options on the streaming tasks: honoured, refused in one line, or without an effect.

docs/fairseq-options.md is made of this table, and `check_options` acts on it. Test: test_fairseq_options.py.
"""

import dataclasses
import logging
from typing import Any, Dict, NamedTuple

from fairseq.dataclass import configs

from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)

HONOURED, REFUSED, NO_EFFECT = "honoured", "refused", "no effect"


class Row(NamedTuple):
    """verdict: one of the three. note: the test of an honoured option, else the reason."""

    verdict: str
    note: str


def _rows(verdict: str, note: str, names: str) -> Dict[str, Row]:
    return {name: Row(verdict, note) for name in names.split()}


def _honoured(test: str, names: str) -> Dict[str, Row]:
    return _rows(HONOURED, test, names)


TOGETHER = "test_fairseq_options.py"
RESUME, DECISIONS, WORKERS, PRECISION = (
    "test_resume.py",
    "test_resume_decisions.py",
    "test_workers.py",
    "test_precision.py",
)
BAD, BYTES = "test_bad_input.py", "test_bytes_in_bits_out.py"

COMMON = {
    **_honoured(TOGETHER, "no_progress_bar log_interval log_format log_file seed cpu user_dir empty_cache_freq"),
    **_honoured(
        TOGETHER, "tensorboard_logdir wandb_project azureml_logging aim_repo aim_run_hash all_gather_list_size"
    ),
    **_honoured(TOGETHER, "reset_logging suppress_crashes"),
    **_honoured(PRECISION, "fp16 bf16 memory_efficient_fp16 memory_efficient_bf16 fp16_no_flatten_grads amp"),
    **_honoured(PRECISION, "fp16_init_scale fp16_scale_tolerance min_loss_scale threshold_loss_scale"),
    **_honoured(PRECISION, "amp_batch_retries amp_init_scale amp_scale_window"),
    **_honoured(DECISIONS, "fp16_scale_window"),
    "tpu": Row(REFUSED, "these models have not been run on TPUs"),
    "model_parallel_size": Row(REFUSED, "the models are not split over GPUs"),
    "quantization_config_path": Row(REFUSED, "the models' layers are not those that fairseq quantizes"),
    "profile": Row(HONOURED, f"{TOGETHER} (on a GPU; refused without one)"),
    **_rows(NO_EFFECT, "only for TPUs", "on_cpu_convert_precision"),
    **_rows(NO_EFFECT, "the text is read from mapped files", "use_plasma_view plasma_path"),
}
DATASET = {
    **_honoured(TOGETHER, "num_workers batch_size_valid max_tokens_valid max_valid_steps fixed_validation_seed"),
    **_honoured(BYTES, "batch_size gen_subset num_shards shard_id"),
    "max_tokens": Row(HONOURED, f"{TOGETHER}: lanes = --max-tokens / --tokens-per-sample; refused with --batch-size"),
    **_honoured(BAD, "train_subset valid_subset"),
    **_honoured(TOGETHER, "ignore_unused_valid_subsets disable_validation"),
    **_honoured(DECISIONS, "validate_interval validate_interval_updates validate_after_updates"),
    "dataset_impl": Row(
        REFUSED, "byte_level_lm reads plain files and streaming_lm the mmap format (which may be named)"
    ),
    "combine_valid_subsets": Row(
        REFUSED, "name the splits, as in --valid-subset valid,valid1 (the first one decides), or join their files"
    ),
    **_rows(NO_EFFECT, "no text is left out for its length", "skip_invalid_size_inputs_valid_test"),
    **_rows(NO_EFFECT, "there are as many lanes as asked for", "required_batch_size_multiple"),
    **_rows(NO_EFFECT, "chunks have the lengths of --tokens-per-sample", "required_seq_len_multiple"),
    **_rows(NO_EFFECT, "torch's loader reads ahead", "data_buffer_size"),
    **_rows(NO_EFFECT, "streams are read in order; stateless models' blocks are shuffled in every epoch", "curriculum"),
    **_rows(NO_EFFECT, "the order of streams is the text's", "grouped_shuffling update_ordered_indices_seed"),
    **_rows(NO_EFFECT, "each epoch has a plan of its own", "update_epoch_batch_itr"),
}
DISTRIBUTED = {
    **_honoured(WORKERS, "distributed_world_size distributed_rank distributed_backend distributed_init_method"),
    **_honoured(WORKERS, "distributed_no_spawn ddp_backend device_id distributed_port distributed_num_procs"),
    **_honoured(WORKERS, "nprocs_per_node find_unused_parameters broadcast_buffers bucket_cap_mb heartbeat_timeout"),
    **_honoured(WORKERS, "gradient_as_bucket_view ddp_comm_hook fast_stat_sync"),
    **_honoured(PRECISION, "fp16 memory_efficient_fp16 tpu"),
    "zero_sharding": Row(REFUSED, "optimizer state is not split over workers"),
    "pipeline_model_parallel": Row(REFUSED, "the models are not split over GPUs"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_balance pipeline_devices"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_chunks pipeline_checkpoint"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_encoder_balance"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_encoder_devices"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_decoder_balance"),
    **_rows(REFUSED, "only for --pipeline-model-parallel, which is refused", "pipeline_decoder_devices"),
    **_rows(
        REFUSED, "SlowMo has not been tried with streams", "slowmo_momentum slowmo_base_algorithm localsgd_frequency"
    ),
    **_rows(
        REFUSED, "parameters are not split over workers", "no_reshard_after_forward fp32_reduce_scatter cpu_offload"
    ),
    **_rows(REFUSED, "parameters are not split over workers", "use_sharded_state not_fsdp_flatten_parameters"),
    **_rows(NO_EFFECT, "each worker always reads its own lanes", "fix_batches_to_gpus"),
}
OPTIMIZATION = {
    **_honoured(DECISIONS, "max_epoch max_update stop_time_hours lr stop_min_lr"),
    **_honoured(RESUME, "update_freq clip_norm"),
    **_honoured(TOGETHER, "sentence_avg debug_param_names"),
    "use_bmuf": Row(REFUSED, "averaging models over blocks of updates has not been tried with streams"),
    "skip_remainder_batch": Row(REFUSED, "the last chunks of each epoch would never be trained on"),
}
CHECKPOINT = {
    **_honoured(
        RESUME, "save_dir restore_file finetune_from_model reset_dataloader reset_lr_scheduler reset_optimizer"
    ),
    **_honoured(RESUME, "save_interval_updates no_epoch_checkpoints"),
    **_honoured(DECISIONS, "reset_meters keep_interval_updates keep_last_epochs keep_best_checkpoints patience"),
    **_honoured(DECISIONS, "no_save_optimizer_state best_checkpoint_metric"),
    **_honoured(TOGETHER, "save_interval keep_interval_updates_pattern no_save no_last_checkpoints checkpoint_suffix"),
    **_honoured(TOGETHER, "optimizer_overrides maximize_best_checkpoint_metric continue_once"),
    **_honoured(WORKERS, "load_checkpoint_on_all_dp_ranks"),
    "checkpoint_shard_count": Row(REFUSED, "checkpoints are one file"),
    "write_checkpoints_asynchronously": Row(REFUSED, "checkpoints could not be replaced whole"),
    "model_parallel_size": Row(REFUSED, "the models are not split over GPUs"),
}
EMA = _honoured(DECISIONS, "store_ema ema_decay ema_start_update ema_update_freq ema_fp32 ema_seed_model")
COMMON_EVAL = {
    "path": Row(HONOURED, f"{TOGETHER}: fairseq-eval-lm averages a.pt:b.pt, fairseq-validate takes one"),
    "model_overrides": Row(HONOURED, BAD),
    "post_process": Row(REFUSED, "(--remove-bpe) scripts/evaluate_text.py gives figures per word and per byte"),
    **_rows(NO_EFFECT, "evaluation prints its result only", "quiet results_path"),
}
EVAL_LM = {
    **_honoured(TOGETHER, "output_word_probs output_word_stats softmax_batch"),
    "context_window": Row(HONOURED, BYTES),
}
BMUF = _rows(REFUSED, "only for --use-bmuf, which is refused", "block_lr block_momentum global_sync_iter use_nbm")
BMUF.update(_rows(REFUSED, "only for --use-bmuf, which is refused", "warmup_iterations average_sync"))
BMUF.update(_honoured(WORKERS, "distributed_world_size"))
# fairseq-fixed 0.12.3.1 and ve-fairseq 0.12.3 have the same options. fairseq 0.12.2 has all but these.
NOT_IN_STOCK = ("debug_param_names", "beam_mt", "max_len_a_mt", "max_len_b_mt", "lenpen_mt")
GENERATION_NOTE = "of fairseq-generate and fairseq-interactive, which refuse these tasks: `sample` draws text"

GROUPS = {
    "common": (configs.CommonConfig, COMMON),
    "dataset": (configs.DatasetConfig, DATASET),
    "distributed_training": (configs.DistributedTrainingConfig, DISTRIBUTED),
    "optimization": (configs.OptimizationConfig, OPTIMIZATION),
    "checkpoint": (configs.CheckpointConfig, CHECKPOINT),
    "ema": (configs.EMAConfig, EMA),
    "common_eval": (configs.CommonEvalConfig, COMMON_EVAL),
    "eval_lm": (configs.EvalLMConfig, EVAL_LM),
    "bmuf": (configs.FairseqBMUFConfig, BMUF),
}
for _name, _config in (("generation", configs.GenerationConfig), ("interactive", configs.InteractiveConfig)):
    _fields = " ".join(field.name for field in dataclasses.fields(_config) if field.name != "_name")
    GROUPS[_name] = (_config, _rows(NO_EFFECT, GENERATION_NOTE, _fields))


def option_of(field: str) -> str:
    """The option as it is typed. `--remove-bpe` is another name of `--post-process`."""
    return f"--{field.replace('_', '-')}"


def changed_fields(group: Any, config: Any) -> Dict[str, Any]:
    """Fields of a configuration group that differ from their defaults; what refers to other groups is left out."""
    changed = {}
    for field in dataclasses.fields(config):
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.name == "_name" or field.default_factory is not dataclasses.MISSING or "${" in str(default):
            continue
        value = getattr(group, field.name, default)
        if value != default and str(value) != str(default):
            changed[field.name] = value
    return changed


def check_options(cfg: Any) -> None:
    """Raise UsageError for an option that is refused, and log those without an effect. For the streaming tasks only."""
    for name, (config, rows) in GROUPS.items():
        group = getattr(cfg, name, None)
        for field, value in changed_fields(group, config).items() if group is not None else ():
            row = rows.get(field)
            if row is None or row.verdict == HONOURED or (field == "dataset_impl" and str(value) == "mmap"):
                continue
            if field == "tpu" and cfg.common.bf16:  # fairseq-train sets it by itself
                continue
            option = option_of(field)
            if row.verdict == REFUSED:
                raise UsageError(f"{option} does not work with --task {cfg.task._name}: {row.note}; leave it out")
            if name not in ("generation", "interactive"):
                logger.warning(f"{option} has no effect with --task {cfg.task._name}: {row.note}")
    if cfg.distributed_training.ddp_backend == "slowmo":
        raise UsageError(f"--ddp-backend slowmo does not work with --task {cfg.task._name}: use legacy_ddp or c10d")
    _check_batch_size(cfg)


def _check_batch_size(cfg: Any) -> None:
    dataset = cfg.dataset
    for lanes, tokens, suffix in (
        (dataset.batch_size, dataset.max_tokens, ""),
        (dataset.batch_size_valid, dataset.max_tokens_valid, "-valid"),
    ):
        inherited = suffix and tokens == dataset.max_tokens
        if lanes is not None and tokens is not None and not inherited:
            raise UsageError(
                f"--max-tokens{suffix} {tokens} does not go with --batch-size{suffix} {lanes}: give one of the two (the "
                "number of lanes is --batch-size, or --max-tokens divided by --tokens-per-sample)"
            )


def as_markdown() -> str:
    """The page docs/fairseq-options.md, for the fairseq that is installed."""
    lines = [
        "# fairseq's own options on the streaming tasks",
        "",
        "Made by `WRITE_DOCS=1 pytest tests/integration/test_fairseq_options.py`. The last column has the test of an",
        "honoured option, or the reason. A refused option ends the command in one line. An option without an effect is",
        "named in the log when it is given. Options of the tasks, models and optimizers: [options.md](options.md).",
        "",
        "The options are those of fairseq-fixed 0.12.3.1 and ve-fairseq 0.12.3, which are the same. fairseq 0.12.2 has all",
        f"but {', '.join(f'`{option_of(name)}`' for name in NOT_IN_STOCK)}.",
    ]
    for name, (config, rows) in GROUPS.items():
        lines += ["", f"## {name.replace('_', ' ')}", "", "| option | | test, or reason |", "| --- | --- | --- |"]
        for field in dataclasses.fields(config):
            if field.name != "_name":
                row = rows[field.name]
                lines.append(f"| `{option_of(field.name)}` | {row.verdict} | {row.note} |")
    return "\n".join(lines) + "\n"
