"""The B-tree of an LMDB file, read in Python, so that no native code follows its offsets.

LMDB's library trusts its files. Here every access to a page is a slice of bytes that matched their checksum
(`lmdb_pages`): one that reaches outside gives fewer bytes, or an error. The flags of a page must fit its level, a
look-up reads as many pages as the tree claims to be deep (32 at most), and no value is longer than the file.
Some hundred pages are kept in memory. Only what a sidecar needs is supported: one tree without duplicate keys, in a
file that no process writes.

A page begins with a head of 16 bytes (number u64, pad u16, flags u16, lower u16, upper u16), then the offset u16 of
each node, as many as fit below `lower`. A node is `size u32 | flags u16 | key length u16 | key | value`; in a branch
the first 6 bytes are the number u48 of the page below, and the first key counts as the lowest. A value that
is longer than half a page is stored in pages of its own, behind the head of the first; the node holds its number u64.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.index.lmdb_pages import Pages
from lazyckpt.index.records import BadRecord

OUTSIDE: Final = (IndexError, struct.error)  # raised if an offset leads outside a page
_HEAD: Final = struct.Struct("<10x H 4x")
_NODE: Final = struct.Struct("<I H H")
_CHILD: Final = struct.Struct("<I H")
_SHORT: Final = struct.Struct("<I I")  # of a node: size, and (where there are no flags) key length << 16
_NUMBER: Final = struct.Struct("<Q")
# A meta page: page head, magic u32, version u32, address u64, map size u64; the tree of free pages, 48 bytes;
# the tree of keys: pad u32, flags u16, depth u16, three counts of pages, entries u64, root u64; last page, transaction.
_META: Final = struct.Struct("<16x I I 16x I 44x 4x H H 24x Q Q Q Q")
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_BRANCH: Final = 1
_LEAF: Final = 2
_OVERFLOW: Final = 4
_APART: Final = 1  # flag of a node whose value has pages of its own
_NO_PAGE: Final = 2**64 - 1
_WRONG_LEVEL: Final = "a page is not of its level"
_DEEPEST: Final = 32
_KEPT: Final = 2**21  # bytes of pages kept twice
_AHEAD: Final = 16  # pages that a walk reads at once


class Leaf(NamedTuple):
    """A page of keys and values, in key order.

    Attributes:
        data: the page.
        nodes: the offset of each node in it (u16 each).
    """

    data: bytes
    nodes: memoryview

    def key(self, number: int) -> bytes:
        """The key of a node of a leaf or a branch."""
        at = self.nodes[number]
        return self.data[at + 8 : at + 8 + (self.data[at + 6] | self.data[at + 7] << 8)]


class Root(NamedTuple):
    """The root of a tree.

    Attributes:
        depth: levels of pages.
        entries: number of keys.
        page: the number of the uppermost page.
    """

    depth: int
    entries: int
    page: int


class Tree:
    """The keys and values of one file. Safe for many threads, and across fork.

    Attributes:
        pages: of the file.
        entries: number of keys, as the file claims.
    """

    def __init__(self, pages: Pages, root: Root) -> None:
        """Take the root of a tree. Reads nothing.

        Raises:
            BadRecord: the tree is impossibly deep.
        """
        self.pages = pages
        self._depth, self.entries, self._root = root
        if self._depth > _DEEPEST:
            raise BadRecord("it contradicts itself")
        self._limit = max(1, _KEPT // pages.page_size)
        self._nearest: dict[bytes, Leaf] = {}  # first byte of a key -> the leaf that was used last
        self._young: dict[int, Leaf] = {}
        self._old: dict[int, Leaf] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None.

        Raises:
            BadRecord, IndexError, struct.error: the file is damaged.
            OSError: the disk fails.

        Cost: a page for each level, which is 3 or 4; 20 us where they have not been read before, else 3 us.
        """
        leaf = self._nearest.get(key[:1])
        if leaf is None or not leaf.key(0) <= key <= leaf.key(-1):
            if not self._depth:
                return None
            leaf = self._nearest[key[:1]] = self._leaf(key)
        number = _first_not_below(leaf, key)
        return self.value(leaf, number) if number < len(leaf.nodes) and leaf.key(number) == key else None

    def _leaf(self, key: bytes) -> Leaf:
        """The only leaf that may contain a key."""
        number, young = self._root, self._young
        for _ in range(self._depth - 1):
            branch = young.get(number) or self._fetched(number)
            if branch.data[10] != _BRANCH:
                raise BadRecord(_WRONG_LEVEL)
            number = _below(branch, _last_not_above(branch, key))
        return self._page(number, _LEAF)

    def leaves(self, start: bytes) -> Iterator[tuple[Leaf, int]]:
        """The leaves from the key `start` on, in key order, each with its first node in that range.

        The caller must check that the keys ascend, and stop where they do not: a forged tree may lead to
        the same leaves again and again.

        Raises:
            BadRecord, IndexError, struct.error, OSError: see `get`.
        """
        return self._walk(self._root, self._depth, start) if self._depth else iter(())

    def _walk(self, number: int, height: int, start: bytes) -> Iterator[tuple[Leaf, int]]:
        """The leaves under a page, from the key `start` on; all of them if that is empty."""
        if height == 1:
            leaf = self._page(number, _LEAF)
            yield leaf, _first_not_below(leaf, start)
            return
        branch = self._page(number, _BRANCH)
        first = _last_not_above(branch, start) if start else 0
        below = [_below(branch, child) for child in range(first, len(branch.nodes))]
        if height > 2:
            for page in below:
                yield from self._walk(page, height - 1, start)
                start = b""
            return
        leaves = self._in_turn(below)
        if start:
            leaf = next(leaves)
            yield leaf, _first_not_below(leaf, start)
        for leaf in leaves:
            yield leaf, 0

    def _in_turn(self, numbers: list[int]) -> Iterator[Leaf]:
        """Read leaves in order; consecutive pages together, more of them as the walk goes on."""
        done, at_once = 0, 1
        while done < len(numbers):
            number, count = numbers[done], 1
            page = self._young.get(number) or self._old.get(number)
            if page is None:
                most = min(at_once, len(numbers) - done)
                while count < most and numbers[done + count] == number + count:
                    count += 1
                for ahead, data in enumerate(self.pages.run(number, count), number):
                    self._keep(ahead, _parsed(data))
                at_once = min(2 * at_once, _AHEAD)
            for number in numbers[done : done + count]:
                yield self._page(number, _LEAF)
            done += count

    def value(self, leaf: Leaf, number: int) -> bytes:
        """The value of a node of a leaf.

        Raises:
            BadRecord, IndexError, struct.error, OSError: see `get`.
        """
        data, at = leaf.data, leaf.nodes[number]
        size, flags, length = _NODE.unpack_from(data, at)
        start = at + _NODE.size + length
        if not flags:
            return data[start : start + size]
        if flags != _APART:
            raise BadRecord("a value of an unknown kind")
        return self._apart(_NUMBER.unpack_from(data, start)[0], size)

    def values(self, leaf: Leaf, first: int, stop: int, key_length: int) -> list[bytes]:
        """The values of a range of nodes, whose keys are `key_length` bytes. This loop must be fast.

        Raises:
            BadRecord, IndexError, struct.error, OSError: see `get`.
        """
        data, found = leaf.data, list[bytes]()
        unpack, plain, ahead, append = _SHORT.unpack_from, key_length << 16, _NODE.size + key_length, found.append
        for node in leaf.nodes[first:stop].tolist():
            size, tail = unpack(data, node)
            if tail != plain:
                return [self.value(leaf, number) for number in range(first, stop)]
            at = node + ahead
            append(data[at : at + size])
        return found

    def texts(self, leaf: Leaf, first: int, stop: int, key_length: int, starts: Mapping[int, int]) -> list[str] | None:
        """The ASCII texts at the ends of the values of a range of nodes. This loop must be fast.

        Args:
            leaf: the leaf.
            first: the first node.
            stop: the node after the last.
            key_length: bytes of each key.
            starts: first 8 bytes of a value, as a number -> offset of the text in it.

        Returns:
            None if a value has pages of its own, or its text is not ASCII.

        Raises:
            struct.error: the file is damaged.
        """
        data = leaf.data
        page, found = str(data, "latin-1"), list[str]()
        unpack, plain, ahead, append = _with_head(key_length), key_length << 16, _NODE.size + key_length, found.append
        last, start = None, 0
        for node in leaf.nodes[first:stop].tolist():
            size, tail, head = unpack(data, node)
            if tail != plain:
                return None
            if head != last:
                last, start = head, ahead + starts[head]
            append(page[node + start : node + ahead + size])
        return found if all(found) and "".join(found).isascii() else None

    def _apart(self, page: int, size: int) -> bytes:
        """Read a value that has pages of its own."""
        each = self.pages.page_size
        count = -(-(_HEAD.size + size) // each)
        if page + count > self.pages.count:
            raise BadRecord("a value is longer than the file")
        data = b"".join(map(self.pages.page, range(page, page + count)))
        if _HEAD.unpack_from(data)[0] != _OVERFLOW:
            raise BadRecord("a value is not where it should be")
        return data[_HEAD.size : _HEAD.size + size]

    def _page(self, number: int, kind: int) -> Leaf:
        page = self._young.get(number) or self._fetched(number)
        if page.data[10] != kind:
            raise BadRecord(_WRONG_LEVEL)
        return page

    def _fetched(self, number: int) -> Leaf:
        """A page from the older half of the cache, or from the file."""
        return self._keep(number, self._old.get(number) or _parsed(self.pages.page(number)))

    def _keep(self, number: int, page: Leaf) -> Leaf:
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[number] = page
        return page


@functools.cache
def _with_head(key_length: int) -> Callable[[bytes, int], tuple[int, int, int]]:
    """A function that unpacks `_SHORT` and, behind the key, the first 8 bytes of the value."""
    return struct.Struct(f"<I I {key_length}x Q").unpack_from


def root_of(path: str, page_size: int) -> Root:
    """The root in the newer of the two meta pages of a finished LMDB file.

    Raises:
        BadRecord: it is not an LMDB file, or not of this kind.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        found = [_meta(file.read(page_size), page_size) for _ in range(2)]
    return max(found)[1]


def _meta(page: bytes, page_size: int) -> tuple[int, Root]:
    """The transaction number of a meta page, and its root."""
    if len(page) < _META.size:
        raise BadRecord("no LMDB file")
    magic, version, own_size, flags, depth, entries, root, _, transaction = _META.unpack_from(page)
    if (magic, version, own_size, flags) != (_MAGIC, _VERSION, page_size, 0):
        raise BadRecord("no LMDB file, or none that is understood")
    return transaction, Root(depth, entries, root)


def _parsed(data: bytes) -> Leaf:
    count = ((data[12] | data[13] << 8) - _HEAD.size) // 2
    if not 0 < count <= (len(data) - _HEAD.size) // 2:
        raise BadRecord("a page without keys")
    return Leaf(data, memoryview(data)[_HEAD.size : _HEAD.size + 2 * count].cast("H"))


def _below(branch: Leaf, number: int) -> int:
    """The number of the page under a node of a branch."""
    low, high = _CHILD.unpack_from(branch.data, branch.nodes[number])
    below: int = low | high << 32
    return below


def _first_not_below(page: Leaf, key: bytes, low: int = 0) -> int:
    """The number of the first node whose key is `key` or above it."""
    data, nodes = page
    high = len(nodes)
    while low < high:
        middle = (low + high) // 2
        at = nodes[middle]
        if data[at + 8 : at + 8 + (data[at + 6] | data[at + 7] << 8)] < key:
            low = middle + 1
        else:
            high = middle
    return low


def _last_not_above(branch: Leaf, key: bytes) -> int:
    """The number of the child that leads to a key."""
    number = _first_not_below(branch, key, 1)
    return number if number < len(branch.nodes) and branch.key(number) == key else number - 1
