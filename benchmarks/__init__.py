"""Programs that measure, and dated reports of what they measured."""

import logging

# Importing fairseq sets every logger talking: advice about a package for speech, and each font that matplotlib looks at.
for _name in ("fairseq.tasks.text_to_speech", "matplotlib"):
    logging.getLogger(_name).setLevel(logging.WARNING)
