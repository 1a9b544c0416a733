"""The three modes and their keys: valid lengths, decryption, and secrecy of the key."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import subprocess
import sys

import pytest
from checkpoints import LAYERS, checkpoint
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from encryption import CBC_MODES, KEY, KEY_SIZES, MAGICS, MODES, key_of, shows

from lazyckpt.errors import ArgumentValueError, CipherUnavailable
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE, CipherKey, RecordCipher, encryption_of, invalid_tag
from lazyckpt.sources.encryption.cipher import MODES as OURS
from lazyckpt.sources.encryption.keys import Secret

SIZES = [(mode, size) for mode in MODES for size in KEY_SIZES[mode]]
DATA = bytes(range(256)) * 2


def lock_of(mode, key=KEY):
    """A cipher key."""
    return CipherKey(OURS[mode], Secret(key))


def test_the_modes_are_mindspores():
    """Names, magics and key lengths equal MindSpore's."""
    assert {mode.name: (mode.magic, mode.key_sizes) for mode in OURS.values()} == {
        name: (MAGICS[name], KEY_SIZES[name]) for name in MODES
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_file_names_its_mode(mode):
    """The first four bytes of a file name its mode, whatever follows them."""
    assert [encryption_of(MAGICS[mode] + rest).name for rest in (b"", b"\0", bytes(100))] == [mode] * 3


@pytest.mark.parametrize("head", [b"", b"\xd8", b"\xd8\x5e\x3a", b"\x0a\x10\x0a\x01", b"\xd7\x5e\x3a\x7f", bytes(4)])
def test_a_plain_file_has_no_mode(head):
    """Any other beginning, also a truncated or changed magic, is plain."""
    assert encryption_of(head) is None


@pytest.mark.parametrize(("mode", "size"), SIZES)
def test_a_key_of_a_right_length_is_taken(mode, size):
    """AES takes 16, 24 or 32 bytes, SM4 16."""
    assert lock_of(mode, key_of(size)).mode.name == mode


@pytest.mark.parametrize("mode", MODES)
def test_a_key_of_a_wrong_length_is_refused(mode):
    """Any other length is refused with both numbers and without the key."""
    messages = {}
    for size in sorted({*range(34), 48, 64} - {*KEY_SIZES[mode]}):
        with pytest.raises(ArgumentValueError) as caught:
            lock_of(mode, key_of(size))
        messages[size] = str(caught.value).partition(";")[0]

    wanted = " or ".join(map(str, KEY_SIZES[mode]))
    assert messages == {
        size: f"a key for {mode} must have {wanted} bytes, the one given has {size}" for size in messages
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_key_of_twice_the_length_may_be_hexadecimal(mode):
    """For a key of twice the length the error suggests `hex:`; for other lengths it does not."""
    longest = KEY_SIZES[mode][-1]

    with pytest.raises(ArgumentValueError, match=r"; put hex: before hexadecimal digits in a file or a variable$"):
        lock_of(mode, key_of(2 * longest))
    with pytest.raises(ArgumentValueError, match=rf"has {longest + 1}$"):
        lock_of(mode, key_of(longest + 1))


@pytest.mark.parametrize("size", KEY_SIZES["AES-GCM"])
def test_gcm_is_undone(size):
    """Data encrypted by `cryptography` with a key of any length is decrypted."""
    encryptor = Cipher(algorithms.AES(key_of(size)), modes.GCM(bytes(12))).encryptor()
    content = encryptor.update(DATA) + encryptor.finalize()
    decryptor = lock_of("AES-GCM", key_of(size)).gcm(bytes(12), encryptor.tag)

    assert decryptor.update(content) + decryptor.finalize() == DATA


def test_a_wrong_tag_is_reported():
    """`finalize` raises the error class given as `invalid_tag`."""
    decryptor = lock_of("AES-GCM").gcm(bytes(12), bytes(16))
    decryptor.update(DATA)

    with pytest.raises(invalid_tag()):
        decryptor.finalize()


@pytest.mark.parametrize(("mode", "size"), [pair for pair in SIZES if pair[0] in CBC_MODES])
def test_cbc_is_undone(mode, size):
    """Data encrypted by `cryptography` with a key of any length is decrypted; the caller removes padding."""
    cipher = {"AES-CBC": algorithms.AES, "SM4-CBC": algorithms.SM4}[mode]
    content = Cipher(cipher(key_of(size)), modes.CBC(KEY)).encryptor().update(DATA)

    assert lock_of(mode, key_of(size)).cbc(KEY).update(content) == DATA


@pytest.mark.parametrize("mode", CBC_MODES)
def test_single_blocks_are_cbc_without_its_chain(mode):
    """Single blocks, decrypted raw and xored with the preceding 16 bytes, equal CBC."""
    lock = lock_of(mode)
    chained = lock.cbc(bytes(16)).update(DATA)
    single = lock.single_blocks(DATA)
    before = bytes(16) + DATA[:-16]

    assert bytes(one ^ other for one, other in zip(single, before, strict=True)) == chained


def test_sm4_is_the_standards():
    """The example of GB/T 32907 is decrypted."""
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")

    assert lock_of("SM4-CBC", key).single_blocks(bytes.fromhex("681edf34d206965e86b3e94f536e4246")) == key


def hkdf(key, salt, purpose, length):
    """HKDF with SHA-256, written as in RFC 5869."""
    root = hmac.digest(salt, key, "sha256")
    made = last = b""
    while len(made) < length:
        last = hmac.digest(root, last + purpose + bytes([len(made) // 32 + 1]), "sha256")
        made += last
    return made[:length]


@pytest.mark.parametrize(("mode", "size"), SIZES)
def test_keys_for_other_purposes_are_derived_by_hkdf(mode, size):
    """Keys are derived from the key, a salt and a purpose as in RFC 5869."""
    salt = hashlib.sha256(b"salt").digest()[:16]

    assert lock_of(mode, key_of(size)).derive(salt, b"purpose", 80) == hkdf(key_of(size), salt, b"purpose", 80)


def test_a_lock_shows_its_mode_and_nothing_else():
    """Printing a cipher key in any way does not show its bytes."""
    lock = lock_of("AES-GCM")

    assert repr(lock) == str(lock) == f"{lock}" == "<CipherKey AES-GCM>"
    assert not shows(repr([lock.__getattribute__(name) for name in CipherKey.__slots__]).encode(), KEY)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_lock_is_never_pickled(duplicate):
    """Pickling or copying a cipher key raises an error that says what to do instead."""
    with pytest.raises(TypeError, match="never pickled: open the checkpoint again"):
        duplicate(lock_of("AES-GCM"))


def test_a_missing_cipher_is_reported_with_its_remedy(monkeypatch):
    """Without SM4 in OpenSSL, the message names it and the command that installs it."""

    def refuse(self):
        raise UnsupportedAlgorithm("cipher SM4 in CBC mode is not supported by this backend")

    monkeypatch.setattr(Cipher, "decryptor", refuse)
    lock = lock_of("SM4-CBC")
    for use in (lambda: lock.cbc(bytes(16)), lambda: lock.single_blocks(bytes(16))):
        with pytest.raises(CipherUnavailable, match=r"without SM4.*pip install .*cryptography") as caught:
            use()
        assert isinstance(caught.value, ValueError)


SEALED = RecordCipher(key_of(32)).encrypt(bytes(12), b"secret", b"place")


def test_a_seal_opens_what_it_closed():
    """The same key, nonce and context restore the data, and the sealed bytes do not contain it."""
    assert RecordCipher(key_of(32)).decrypt(bytes(12), SEALED, b"place") == b"secret"
    assert b"secret" not in SEALED


@pytest.mark.parametrize(
    ("key", "nonce", "data", "context"),
    [
        (bytes(32), bytes(12), SEALED, b"place"),
        (key_of(32), b"\1" * 12, SEALED, b"place"),
        (key_of(32), bytes(12), SEALED, b"another"),
        (key_of(32), bytes(12), SEALED[:-1], b"place"),
        (key_of(32), bytes(12), SEALED + b"\0", b"place"),
        (key_of(32), bytes(12), bytes([SEALED[0] ^ 1]) + SEALED[1:], b"place"),
        (key_of(32), bytes(12), b"", b"place"),
        (key_of(32), b"", SEALED, b"place"),
    ],
    ids=["key", "nonce", "context", "cut", "longer", "flipped", "nothing", "no nonce"],
)
def test_a_seal_opens_nothing_else(key, nonce, data, context):
    """With any other key, nonce or context the answer is None, never other data."""
    assert RecordCipher(key).decrypt(nonce, data, context) is None


def test_a_plain_checkpoint_needs_no_cipher(tmp_path):
    """Loading a plain file, all its values and its index, does not import `cryptography`."""
    path = tmp_path / "plain.ckpt"
    path.write_bytes(checkpoint(LAYERS))
    code = (
        "import sys, lazyckpt\n"
        "for _ in 'cold', 'warm': lazyckpt.load_checkpoint(sys.argv[1]).load()\n"
        "print([name for name in sys.modules if name.startswith('cryptography')])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"


def test_the_default_mode_is_mindspores():
    """MindSpore's `load_checkpoint` and `save_checkpoint` use AES-GCM by default."""
    assert DEFAULT_MODE == "AES-GCM"
    assert DEFAULT_MODE in OURS
