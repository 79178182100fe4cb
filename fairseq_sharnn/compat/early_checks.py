"""Patches for what fairseq-train answers with a traceback before its options are checked."""

import re

from fairseq.data import data_utils

from fairseq_sharnn.compat.option_checks import refuse_profiling_without_gpu, refuse_unused_valid_subsets
from fairseq_sharnn.compat.patching import patch
from fairseq_sharnn.errors import UsageError, usage_errors_in_one_line


def check_profiler_and_splits() -> None:
    """fairseq-train starts CUDA's profiler before anything else, which is a traceback without a GPU. So is a file valid1 in
    DATA that no option mentions, and so is a schedule without its length. Test: test_fairseq_options.py, test_bad_input.py.
    """
    from fairseq_cli import train

    @patch(train, "convert_namespace_to_omegaconf")
    @usage_errors_in_one_line()
    def convert_namespace_to_omegaconf(original, args):
        if args.lr_scheduler == "polynomial_decay" and args.total_num_update is None:
            raise UsageError("--lr-scheduler polynomial_decay needs the number of its updates: --total-num-update")
        cfg = original(args)
        refuse_profiling_without_gpu(cfg)
        return cfg

    @patch(data_utils, "raise_if_valid_subsets_unintentionally_ignored")
    def raise_if_valid_subsets_unintentionally_ignored(original, cfg):
        try:
            original(cfg)
        except ValueError as error:
            found = re.search(r"Valid paths \[(.*?)\] will be ignored", str(error))
            if found is None:
                raise
            refuse_unused_valid_subsets(cfg, re.findall(r"'([^']*)'", found[1]))
