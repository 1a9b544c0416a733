"""The format of several files of one format that are read as one source."""

from __future__ import annotations

from collections.abc import Iterator

from lazyckpt.formats import Format
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.model.entry import Entry, Extent, Plain, moved
from lazyckpt.sources.base import Source
from lazyckpt.sources.concatenated import JoinedSource
from lazyckpt.sources.window import Patch


def joined(form: Format, source: JoinedSource) -> Format:
    """What `form` offers of each part, by places in the whole.

    Metadata are those of all parts together, the last one's where they differ; checksums those of the first part that
    tells a wrong one.
    """

    def base_of(entry: Entry) -> int:
        return source.bases[source.part_at(entry.start)]

    def confirm(_: Source, entry: Entry) -> None:
        number = source.part_at(entry.start)
        form.confirm(source.parts[number], moved(entry, -source.bases[number]))

    def header_extents(entry: Entry) -> list[Extent]:
        base = base_of(entry)
        return [Extent(offset + base, length) for offset, length in form.header_extents(moved(entry, -base))]

    def confirm_in(buffer: Buffer, entry: Entry) -> None:
        base = base_of(entry)
        if not isinstance(buffer, Patch):
            raise TypeError("the bytes of one header are needed, not a whole source")
        form.confirm_in(buffer.moved(-base), moved(entry, -base))

    def metadata(_: Source) -> dict[str, str]:
        return {name: text for part in source.parts for name, text in form.metadata(part).items()}

    def checksums(_: Source) -> tuple[int | None, int]:
        told: int | None = None
        found = 0
        for part in source.parts:
            told, found = form.checksums(part)
            if told is not None and told != found:
                break
        return told, found

    def find(_: Source) -> Iterator[Plain | Entry]:
        raise TypeError("parts are indexed one by one")

    return form._replace(
        find=find, confirm=confirm, header_extents=header_extents, confirm_in=confirm_in, metadata=metadata,
        checksums=checksums,
    )  # fmt: skip
