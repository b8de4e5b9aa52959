"""The source and scope fetcher REST: any JSON or CSV endpoint by configuration."""
