"""What experiments and benchmarks share, each thing once.

| module | what it has |
| --- | --- |
| `folder` | `Claim`: the output folder that belongs to one configuration; JSON files that are whole at any moment |
| `records` | typed records: dataclasses written to JSON and read back |
| `processes`, `memory` | commands with time-stamped logs, measured memory and CPU time, and no process left behind |
| `spread` | mean and deviation over seeds |
| `pool`, `runner` | steps of many tasks, some at a time, with one line of progress |
| `progress` | the line of progress, and the estimate of the time that is left |
| `machine` | processor, memory, GPU, versions, commit |
| `logs` | what fairseq's training and evaluation logs say |
| `sizes` | widths and inner widths that bring a model to a number of parameters |
| `decoding` | one token at a time through fairseq's incremental decoding; a Transformer's sliding window |
| `markdown`, `plots` | tables and numbers; the style of all plots |

Nothing here knows an experiment. `experiments.comparison` (training and evaluation that two experiments share), the
experiments and `benchmarks/` import it, never the other way round.
"""
