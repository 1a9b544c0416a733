"""`diagnose`: identify a file, find its faults, and suggest what to do.

Strategy: from the outside to the inside, as far as the file allows: path and permissions, first bytes, frames of an
encrypted file, headers (walked in the file, not taken from an index), sidecars, and, on request, values. Each step adds
facts and findings. A fault ends the walk, and becomes a finding: none is raised. Nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any, Final

import numpy as np

from lazyckpt.display import human_size
from lazyckpt.errors import (
    ArgumentValueError,
    CorruptFile,
    DamagedBlock,
    EncryptedFile,
    FileFault,
    LazyCkptError,
    MissingFile,
    TooManyOpenFiles,
    TruncatedFile,
    UnreadableFile,
    WrongFormat,
    WrongKey,
)
from lazyckpt.explore.compare import STEP
from lazyckpt.explore.doctor_report import SICK, Diagnosis, Finding, by_level
from lazyckpt.explore.index_status import Sidecar, sidecars_of
from lazyckpt.explore.inventory import ALIGNMENTS, Inventory, Sample, missing_from
from lazyckpt.explore.set_status import is_set, set_status
from lazyckpt.explore.zero_runs import judge, zero_runs
from lazyckpt.formats import FORMATS, Format, find, format_of
from lazyckpt.formats.ckpt import trailer
from lazyckpt.formats.detect import DESCRIPTIONS, HEAD, is_safetensors, is_text, recognised
from lazyckpt.formats.safetensors import CRC
from lazyckpt.index.open_file import without_index
from lazyckpt.index.store import MAX_PARAMETER_NAME
from lazyckpt.model.entry import TENSOR, Entry, entry_of
from lazyckpt.reading.reader import FileReader, Reader
from lazyckpt.runtime.workers import Progress
from lazyckpt.sharding.weight_map import parts_of
from lazyckpt.sources import Source, open_source
from lazyckpt.sources.encryption.cipher import Mode, encryption_of
from lazyckpt.sources.encryption.decryption import DecryptedSource, open_encrypted
from lazyckpt.sources.encryption.frames import read_frame_headers
from lazyckpt.sources.encryption.keys import Key, Secret, secret_of
from lazyckpt.sources.encryption.sequential import sequential_view
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, NOT_FILES, file_system, open_local
from lazyckpt.sources.paths import as_path, is_listing, require_local

SAVE_WHOLE: Final = "save the values that are whole: lazyckpt extract --whole FILE --out NEW"
# Advice by type of error; the first match counts.
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (MissingFile, "check the name and the folder"),
    (EncryptedFile, "give the key (--key-file or --key-env; key=… in Python) to look further"),
    (WrongKey, "give the key that the file was saved with"),
    (DamagedBlock, "get the file again, from where it came from; 'lazyckpt verify' shows which blocks are damaged"),
    (TruncatedFile, "copy or download the file again, and compare its size with that of the original"),
    (CorruptFile, "get the file again, or save it again"),
    (TooManyOpenFiles, "close other files, or raise the limit (ulimit -n)"),
    (UnreadableFile, "ask for permission to read it (chmod u+r), or copy it to where it can be read"),
    (ArgumentValueError, "give a key of the right length"),
)


def diagnose(
    path: str | os.PathLike[str], key: Key | None = None, *, values: bool = False, progress: Progress | None = None
) -> Diagnosis:
    """Identify any file, and report its faults with advice.

    >>> report = lazyckpt.diagnose("LeNet5-1_32.ckpt")
    >>> report.healthy, report.what
    (True, 'a MindSpore checkpoint')

    Args:
        path: any file, a checkpoint or not; or the listing of a set, or a folder.
        key: the key of an encrypted checkpoint, or a `KeyReference`. The mode is read from the file.
        values: also read every value, to find NaNs and infinities.
        progress: called as `progress(done, total)` with bytes while values are read.

    Returns:
        A report that prints, renders in notebooks, and exports. `.healthy` is true if nothing is wrong.

    Raises:
        ArgumentTypeError, ArgumentValueError: `path` is not a path, or `key` is not a key. A fault of the file is part
            of the report, and is not raised.

    Cost: walks the headers: about 6 us and 200 bytes of memory per parameter. Without `values`, no payload is read but
    up to 6 MiB at the end of a file that ends in zeros, and 2 MiB at each hole. An AES-GCM file is decrypted once if
    its key is given. Nothing is written.
    """
    try:
        secret = secret_of(key)
    finally:
        key = None  # so that no traceback's variables show it
    local = require_local(as_path(path), "only files of this machine can be examined; verify reads others, too")
    examination = _Examination(local, secret, values, progress)
    examination.examine()
    findings = by_level(examination.findings)
    return Diagnosis(examination.path, examination.what, examination.facts, findings, examination.needs_key)


class _Examination:
    """One run of `diagnose`: the file, and the facts and findings so far."""

    def __init__(self, path: str, key: Secret | None, values: bool, progress: Progress | None) -> None:
        self.path = path
        self.what = "something"
        self.facts: dict[str, Any] = {}
        self.findings: list[Finding] = []
        self.needs_key = False
        self._key = key
        self._values = values
        self._progress = progress

    def examine(self) -> None:
        """Examine everything that can be examined."""
        try:
            if is_set(self.path) and os.path.exists(self.path):
                self._set()
            elif self._is_file():
                self._open()
        except (LazyCkptError, OSError, MemoryError) as error:
            self._fault(error)

    def _find(self, level: str, what: str, advice: str = "") -> None:
        self.findings.append(Finding(level, what, advice))

    def _fault(self, error: BaseException, level: str = "fatal") -> None:
        """Add a fault as a finding."""
        if isinstance(error, FileFault):
            error.file = None
        self._find(level, str(error) or type(error).__name__, _advice_for(type(error)))

    def _is_file(self) -> bool:
        """Examine the path; return whether it leads to a file."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            is_link = os.path.islink(self.path)
            self.what = "a link that leads nowhere" if is_link else "nothing: there is no such file"
            advice = f"get the file that it leads to: {os.path.realpath(self.path)}" if is_link else ""
            self._find("fatal", "the file does not exist", advice or "check the name and the folder")
            return False
        except (OSError, ValueError) as error:
            self.what = "nothing that can be reached"
            self._find("fatal", str(getattr(error, "strerror", None) or error), "check the name and the folder")
            return False
        other = NOT_FILES.get(stat.S_IFMT(status.st_mode))
        if other is not None:
            self.what = other
            self._find("fatal", f"it is {other}, not a file", "give what comes out of it, saved as a file")
            return False
        self.facts["size"] = status.st_size
        self.facts["permissions"] = f"{status.st_mode & 0o777:03o}"
        self.what = "a file"
        kind = file_system(self.path)
        self.facts["file system"] = kind
        if kind in NETWORK_FILE_SYSTEMS:
            advice = "copy it to a local disk if it is opened often"
            self._find("note", f"it lies on a network file system ({kind}): it is read without a memory map", advice)
        return True

    def _set(self) -> None:
        """Examine the files of a listing or a folder, together."""
        self.what = "the listing of a checkpoint in several files" if is_listing(self.path) else "a folder"
        status = set_status(self.path, self._key)
        if is_listing(self.path):
            with contextlib.suppress(LazyCkptError):
                self._missing_parts()
        else:
            self.facts["files"] = len(status.files)
        self.needs_key = status.needs_key
        if status.needs_key:
            self._find("note", "its files are encrypted, and not looked at without the key", _advice_for(EncryptedFile))
        elif status.fault is not None and not self.findings:
            advice = _advice_for(type(status.fault))
            is_damage = isinstance(status.fault, CorruptFile)
            self._find("fatal", str(status), f"{advice}; or {SAVE_WHOLE}" if is_damage else advice)
        elif status.fault is None and status.refused.count:
            self._find("error", str(status), "load the other values, one by one")
        elif status.fault is None:
            self.facts["parameters"] = status.parameters
            self._find("note", str(status), "'lazyckpt verify' reads all of them")
            for file in status.files:
                self._part(file)

    def _missing_parts(self) -> None:
        parts = parts_of(self.path)
        self.facts["parts"] = len(parts)
        missing = Sample()
        for part in parts:
            if not os.path.exists(part):
                missing.add(os.path.basename(part))
        if missing.count:
            self._find(
                "fatal", f"{missing.count:,} of its files are missing: {missing}", f"get them, too; or {SAVE_WHOLE}"
            )

    def _part(self, path: str) -> None:
        """Examine one of several files, and add the findings that are more than notes."""
        part = _Examination(path, self._key, self._values, self._progress)
        part.examine()
        for level, what, advice in part.findings:
            if level in SICK:
                self._find(level, f"{os.path.basename(path)}: {what}", advice)

    def _open(self) -> None:
        """Examine the first bytes, and go on with the format they indicate."""
        raw = open_local(os.path.realpath(self.path)).source
        try:
            head = bytes(raw.snapshot(0, min(HEAD, raw.size)))
        finally:
            raw.close()
        if not head:
            self.what = "an empty file"
            self._find("fatal", "it has 0 bytes", "get or save it again")
            return
        mode = encryption_of(head)
        kind = recognised(head)
        if kind is not None:
            self.what = kind.what
            self._find("fatal", "it is not a checkpoint", kind.advice)
            return
        self._sidecars()
        if mode is None:
            opened = open_source(os.path.realpath(self.path), access="pread")
            if self._key is not None:
                self._find("note", "a key was given, and the file is not encrypted", "leave the key out")
            try:
                form = format_of(opened.source)
                is_prose = form == "ckpt" and len(head) >= 16 and is_text(head)
                self.what = "a text file" if is_prose else DESCRIPTIONS[form]
                self._contents(opened.source, form)
                self._name(form)
            finally:
                opened.source.close()
            return
        self.what = f"a MindSpore checkpoint, encrypted with {mode.name}"
        self.facts["encryption"] = mode.name
        self._encrypted(mode)

    def _name(self, form: str) -> None:
        """Examine the extension, which loaders require."""
        if not self.path.endswith(form) and not any(finding.level == "fatal" for finding in self.findings):
            advice = f"rename it, or give it a second name: ln FILE FILE.{form}"
            self._find("error", f"its name does not end in .{form}: load_checkpoint refuses it", advice)

    def _sidecars(self) -> None:
        """Examine the sidecars, before anything is opened with a key."""
        found = sidecars_of(os.path.realpath(self.path))
        self.facts["index"] = [str(sidecar) for sidecar in found] or "none yet: the first load writes it"
        for sidecar in found:
            self._sidecar(sidecar)

    def _sidecar(self, sidecar: Sidecar) -> None:
        if sidecar.state in ("stale", "damaged"):
            advice = "nothing: the next load builds it again (or: lazyckpt index --force)"
            self._find("note", f"the index {sidecar.path} is {sidecar.state}: {sidecar.why}", advice)

    def _encrypted(self, mode: Mode) -> None:
        path = os.path.realpath(self.path)
        if self._key is None:
            raw = open_local(path).source
            try:
                self.facts["blocks"] = len(read_frame_headers(raw, mode))
            finally:
                raw.close()
            self.needs_key = True
            what = "it is encrypted; its blocks are whole, and nothing else can be looked at without the key"
            self._find("note", what, _advice_for(EncryptedFile))
            return
        opened = open_source(path, self._key, mode.name, access="pread")
        try:
            if opened.lock is None:  # it became empty
                return
            source = open_encrypted(opened.source, opened.lock)
            if isinstance(source, DecryptedSource):
                self.facts["blocks"] = len(source.table)
            if not mode.tagged:
                self._find(
                    "note",
                    f"nothing authenticates {mode.name}: damage goes unnoticed",
                    "store digests while the file is known to be good (lazyckpt index --digest)",
                )
            self._contents(source, "ckpt")
        finally:
            opened.source.close()

    def _contents(self, source: Source, name: str) -> None:
        """Walk the headers, and read the values if requested."""
        inventory = Inventory()
        entries: list[Entry] = []
        try:
            with sequential_view(source) as sweep:
                found = find(sweep, name)
                inventory.take(self._kept(found, entries) if self._values else found)
        except WrongFormat as error:
            self.what, _, advice = error.what.removeprefix("this is ").partition(": ")
            self._find("fatal", "it is not a checkpoint", advice)
            return
        except CorruptFile as error:
            self._where(source, name, inventory, error)
        self._report(source, name, inventory)
        if "encryption" not in self.facts and not any(finding.level == "fatal" for finding in self.findings):
            self._zeros(source, name)
        if self._values and entries:
            self._look_at_values(source, FORMATS[name], entries)

    @staticmethod
    def _kept(found: Any, entries: list[Entry]) -> Any:
        for one in found:
            entries.append(entry_of(one))
            yield one

    def _where(self, source: Source, name: str, inventory: Inventory, error: CorruptFile) -> None:
        """Add where a damaged file breaks off."""
        is_plain = "encryption" not in self.facts
        known = name == "safetensors" and is_safetensors(bytes(source.snapshot(0, min(HEAD, source.size))))
        if is_plain and not inventory.parameters and not isinstance(error, TruncatedFile) and not known:
            self.what = "a file of an unknown kind"
        self._fault(error)
        if inventory.parameters > inventory.refused.count:
            self._find("note", f"{inventory.parameters - inventory.refused.count:,} values are whole", SAVE_WHOLE)
        self.facts["broken at"] = error.offset
        if name != "ckpt":
            return
        self.facts["last whole parameter"] = inventory.last
        if isinstance(error, TruncatedFile):
            missing = missing_from(source, inventory.stop)
            if missing:
                self.facts["bytes missing"] = f"at least {missing:,}"

    def _report(self, source: Source, name: str, inventory: Inventory) -> None:
        """Add what the walk found."""
        self.facts["parameters"] = inventory.parameters
        self.facts["values"] = f"{human_size(inventory.nbytes)} ({inventory.nbytes:,} bytes)"
        self.facts["kinds"] = dict(inventory.kinds)
        self.facts["dtypes"] = dict(inventory.dtypes)
        if inventory.tensors:
            counts = ", ".join(f"{inventory.aligned[size]:,} at a multiple of {size}" for size in ALIGNMENTS)
            self.facts["aligned"] = f"of {inventory.tensors:,} tensors {counts} bytes"
        broken = any(finding.level == "fatal" for finding in self.findings)
        crc = None if broken else _crc(source, name)
        self.facts["crc"] = "none" if crc is None else f"{crc} ('lazyckpt verify' compares it)"
        for level, some, one, many, advice in _oddities(inventory):
            if some.count:
                self._find(level, f"{one if some.count == 1 else f'{some.count:,} {many}'}: {some}", advice)
        gap = inventory.unowned
        if gap:
            self._find("note", f"{gap:,} bytes between parameters belong to none", "nothing: loaders pass over them")
        if not inventory.parameters and not broken:
            self._find("fatal", "there is no parameter in it", "get or save it again")

    def _zeros(self, source: Source, name: str) -> None:
        """Judge zeros at the end of the file and in its holes."""
        doubt = judge(find(source, name), zero_runs(source, sampled=True), source.size)
        if doubt is None:
            return
        if not doubt.why:
            self._find("note", str(doubt), "nothing, if it was saved so; 'lazyckpt verify' reads all of it")
            return
        self._find("warning", str(doubt), f"copy or download the file again, and compare; or {SAVE_WHOLE}")

    def _look_at_values(self, source: Source, form: Format, entries: list[Entry]) -> None:
        """Count NaNs and infinities."""
        reader = FileReader(without_index(source, form))
        strange = Sample()
        done, total = 0, sum(entry.stored for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.kind == TENSOR and entry.dtype is not None and entry.dtype.numpy.kind not in "biu":
                try:
                    nans, infinities = _strangers(reader, entry)
                except LazyCkptError as error:
                    self._fault(error, "error")
                    continue
                if nans or infinities:
                    count = entry.nbytes // entry.dtype.itemsize
                    strange.add(f"{entry.name!r} ({nans:,} NaN, {infinities:,} infinite of {count:,})")
            done += entry.stored
            if self._progress is not None:
                self._progress(done, total)
        self.facts["values looked at"] = len(entries)
        if strange.count:
            advice = "look at them (lazyckpt show FILE NAME); training may have diverged before this was saved"
            who = "a parameter holds" if strange.count == 1 else f"{strange.count:,} parameters hold"
            self._find("warning", f"{who} NaNs or infinities: {strange}", advice)


def _advice_for(kind: type[BaseException]) -> str:
    return next((text for known, text in _ADVICE if issubclass(kind, known)), "")


def _oddities(inventory: Inventory) -> tuple[tuple[str, Sample, str, str, str], ...]:
    """(level, sample, phrase for one, phrase for several, advice) for each kind of oddity."""
    leave_out = "leave it out when loading (choice_func)"
    return (
        ("error", inventory.refused, "a parameter cannot be loaded", "parameters cannot be loaded", leave_out),
        (
            "error",
            inventory.long_names,
            f"a name has more than {MAX_PARAMETER_NAME:,} characters",
            f"names have more than {MAX_PARAMETER_NAME:,} characters",
            leave_out,
        ),
        (
            "warning",
            inventory.replaced,
            "a value is replaced by a later one of the same name",
            "values are replaced by later ones of the same names",
            "save it again (lazyckpt convert), which leaves them out",
        ),
        (
            "note",
            inventory.marked,
            "a name is shortened when it is loaded, as MindSpore does",
            "names are shortened when they are loaded, as MindSpore does",
            "",
        ),
    )


def _crc(source: Source, name: str) -> str | None:
    """The checksum stored in a file."""
    if name == "safetensors":
        return FORMATS[name].metadata(source).get(CRC)
    crc = trailer(source).crc
    return None if crc is None else f"{crc:#010x}"


def _strangers(reader: Reader, entry: Entry) -> tuple[int, int]:
    """The number of NaNs and infinities in a tensor. Cost: reads it, 8 MiB at a time."""
    nans = infinities = 0
    for piece in reader.pieces(entry):
        for start in range(0, piece.size, STEP):
            part = piece[start : start + STEP]
            wide = part if part.dtype.kind in "fc" else part.astype(np.float32)
            nans += int(np.count_nonzero(np.isnan(wide)))
            infinities += int(np.count_nonzero(np.isinf(wide)))
    return nans, infinities
