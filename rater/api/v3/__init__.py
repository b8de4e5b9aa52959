"""Our own API below /v3: what CloudKitty's cannot say, as typed operations that the OpenAPI document is made from."""
