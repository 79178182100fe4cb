"""What scripts/tokenization_study.py does, one file a step."""
