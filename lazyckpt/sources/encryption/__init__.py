"""Encrypted files as sources of their plaintext: keys, ciphers, framing, decryption, caches."""
