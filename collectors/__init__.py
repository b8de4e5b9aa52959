"""Where usage comes from: sources, scope fetchers, metrics.yml, replay of files, and the publisher behind them all."""
