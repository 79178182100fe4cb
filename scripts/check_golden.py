#!/usr/bin/env python3
"""Compare this package with golden tensors: model and optimizer cases, in float64 and float32.

    scripts/check_golden.py tests/golden/*.npz

Prints a line for each file and precision, with the largest relative error by kind (relative to the largest magnitude of
the tensor). Exits 1 if one is past the tolerance: 1e-9 in float64, 1e-4 in float32. The files may have any sizes, layers,
heads and chunk lengths. tests/golden/README.md describes the format.
"""

import argparse
import sys

try:
    import torch

    from fairseq_sharnn.evaluation.golden import check_file
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    args = parser.parse_args()
    if args.device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    passed = [check_file(path, args.device) for path in args.files]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
