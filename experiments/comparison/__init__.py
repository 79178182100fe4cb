"""Side-by-side training and evaluation through fairseq's own commands: what compare_transformer.py and ablate.py share.

presets -> contestants, sizes -> tuning -> training -> evaluation, generation, context -> results -> report, plots.
"""

import logging

# Importing fairseq logs advice about a package for speech.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
