"""Load generators and measurements, and what they found: `results.jsonl`, one line a run."""
