"""How whoever asks is recognised: by a token of ours, by Keystone, by a signed token; or nobody is asked."""
