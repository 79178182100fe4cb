"""The parts of gpu_acceptance.py: its stages, the processes that they run in, and its report."""
