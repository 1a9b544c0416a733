"""Encrypted checkpoints as sources: keys, ciphers, frames, decryption, and its caches."""
