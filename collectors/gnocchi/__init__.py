"""The source and scope fetcher Gnocchi: its questions, its evidence, its check."""
