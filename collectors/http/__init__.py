"""HTTP requests with credentials, for every source and fetcher that needs them."""
