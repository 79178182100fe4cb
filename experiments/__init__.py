"""Experiments and their committed results: a harness that all share, and a package for each experiment.

The package lies in the repository's root, next to `fairseq_sharnn`. An editable install puts the root on Python's path, so
that the programs in scripts/ import it from any folder; wheels leave it out, because results are of no use in them.
"""
