"""`python -m fairseq_sharnn` (console script `sharnn`)."""

import sys

from fairseq_sharnn.portable.command_line import main

if __name__ == "__main__":
    sys.exit(main())
