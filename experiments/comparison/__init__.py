"""A fair comparison of models through fairseq's own commands: what the programs of two experiments share.

| modules | what they have |
| --- | --- |
| `trials`, `halving`, `presets` | what a training may spend and what tuning tries; how large, how long, how often |
| `contestant`, `preset_options`, `device` | a model and how it is trained; options that change a preset; CPU or GPU |
| `sizes`, `learning_rate`, `splits` | equal sizes; the learning rate of a run; the data |
| `records` | what is measured, as typed records |
| `training_run`, `training_command` | one training, in slices that resume |
| `evaluation`, `windows`, `generation` | the test, the context that fits an allowed time, the speed of writing |
| `comparison`, `plan`, `methods`, `stages` | the state of a comparison, how long it takes, and what is done in which order |
| `run_result`, `summary`, `results` | the figures of a run, of a contestant, and of all |
| `verdict`, `equal_time`, `seeds_rule` | who leads, at which time of evaluation, and whether seeds are missing |
| `report_plots`, `tables`, `report` | the figures for people; only this row and the one above have prose |
| `program` | a program, from its options to its report |

A module imports only modules of its own row and of rows above it. `experiments.versus_transformer` and
`experiments.ablations` add who takes part, one stage, and what their report says.
"""
