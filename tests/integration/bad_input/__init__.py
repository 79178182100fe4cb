"""Cases of bad input by kind. Each kind has a file with its list CASES; test_bad_input.py runs them all."""

from tests.integration.bad_input import checkpoints, data, dynamic, options, text, weights

CASES = [*data.CASES, *options.CASES, *dynamic.CASES, *checkpoints.CASES, *text.CASES, *weights.CASES]
