"""The source Prometheus: its questions, its evidence, its check."""
