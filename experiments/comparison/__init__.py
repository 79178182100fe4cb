"""A fair comparison of models through fairseq's own commands: what the programs of two experiments share.

| modules | what they have |
| --- | --- |
| `presets`, `preset_options`, `trials` | how large, how long, how often; the options that change it; what tuning tries |
| `contestant`, `sizes`, `learning_rate` | a kind of model and how it is trained; equal sizes; the learning rate |
| `training_run`, `training_command` | one training, in slices that resume, and its record |
| `evaluation`, `windows`, `generation` | the test, the context that fits an allowed time, the speed of writing |
| `comparison`, `stages`, `plan` | the state of a comparison; what is done, in order; how long it takes |
| `program` | a program from its options to its report |
| `records`, `run_result`, `summary`, `results` | the figures, as typed data |
| `report`, `tables`, `verdict`, `report_plots` | the figures, for people: the only modules with prose |

Arrows point upwards in this table only from the modules below. `experiments.versus_transformer` and `experiments.ablations`
add who takes part, one stage, and what their report says.
"""
