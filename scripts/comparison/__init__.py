"""Side-by-side training and evaluation through fairseq's own commands: what compare_transformer.py and ablate.py share.

presets -> contestants, sizes -> tuning -> training -> evaluation, generation, context -> results -> report, plots.
"""
