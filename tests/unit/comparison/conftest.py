"""The package `comparison` lies in scripts/, beside the programs that use it."""

import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
