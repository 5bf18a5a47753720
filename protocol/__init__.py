"""The wire contract and the trust rules: bytes in, verified values out."""
