"""Helpers for output: sizes, printable names, HTML tables. Trees and plots are in `views`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

_LONGEST_NAME: Final = 160  # characters
_LONGEST_SENTENCE: Final = 1000
_NOT_ASCII: Final = re.compile(r"[^\n -~]")  # or not printable
# Text against its background has a contrast of at least 4.5 (WCAG AA) in both schemes.
STYLE: Final = """<style>
.lzc{--fg:var(--jp-content-font-color1,var(--vscode-editor-foreground,#1f2328));
--dim:var(--jp-content-font-color2,var(--vscode-descriptionForeground,#57606a));
--bg:var(--jp-layout-color0,var(--vscode-editor-background,#fff));
--rule:var(--jp-border-color2,var(--vscode-widget-border,#d8dee4));--bar:#4c8dd6;--hot:rgba(110,140,180,.13);
color:var(--fg);background:var(--bg);font:13px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;
max-width:60rem;padding:.4rem .6rem;text-align:left;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){.lzc{--fg:var(--jp-content-font-color1,var(--vscode-editor-foreground,#e6edf3));
--dim:var(--jp-content-font-color2,var(--vscode-descriptionForeground,#9aa4b0));
--bg:var(--jp-layout-color0,var(--vscode-editor-background,#0d1117));
--rule:var(--jp-border-color2,var(--vscode-widget-border,#30363d))}}
.lzc .h{padding:0 .3rem .35rem;border-bottom:1px solid var(--rule);margin-bottom:.25rem}
.lzc .h b{font-weight:600}
.lzc .d,.lzc .x{color:var(--dim)}.lzc .n{padding:.3rem .3rem 0;color:var(--dim);font-size:12px}
.lzc .r{display:grid;grid-template-columns:minmax(9rem,1fr) 6.2rem 10rem 5.2rem 6.5rem;gap:0 .7rem;align-items:baseline;
padding:.06rem .3rem;border-radius:3px}
.lzc .r:hover{background:var(--hot)}.lzc summary{cursor:pointer;list-style:none}
.lzc summary::-webkit-details-marker{display:none}.lzc details>div{padding-left:1.15rem}
.lzc .l::before{content:"";display:inline-block;width:1.05rem}
.lzc summary>.l::before{content:"\\25B8";color:var(--dim)}.lzc details[open]>summary>.l::before{content:"\\25BE"}
.lzc summary:focus-visible{outline:2px solid var(--bar);outline-offset:1px}
.lzc .l{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12.5px;word-break:break-all}
.lzc i{font-style:normal;word-break:normal;
color:var(--dim);font-family:system-ui,sans-serif;font-size:12px;margin-left:.4em}
.lzc .z,.lzc .p{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.lzc .p{position:relative;padding-left:3.2rem}
.lzc .p s{position:absolute;left:0;bottom:.45em;width:3rem;height:.4em;border-radius:2px;background:var(--hot)}
.lzc .p u{display:block;height:100%;min-width:1px;border-radius:2px;background:var(--bar)}
.lzc table{border-collapse:collapse;color:inherit;font:inherit;margin:0}
.lzc table tr{background:none!important}
.lzc td,.lzc th{text-align:right;white-space:nowrap;
padding:.1rem .6rem .1rem 0;border:0;background:none;font-variant-numeric:tabular-nums}
.lzc th{color:var(--dim);font-weight:500;border-bottom:1px solid var(--rule)}
.lzc td:first-child,.lzc th:first-child{text-align:left;padding-left:.3rem}
.lzc .f td,.lzc td.s,.lzc th.s{text-align:left;white-space:normal}
.lzc td,.lzc th{vertical-align:top}
.lzc .w{overflow-x:auto;overflow-wrap:normal}
@media(max-width:640px){.lzc .r{grid-template-columns:minmax(0,1fr) auto 5rem;padding:.18rem .1rem}
.lzc .l{grid-column:1/3}.lzc .z{grid-column:3;grid-row:1}.lzc .d{grid-column:1;grid-row:2;padding-left:1.05rem}
.lzc .x{grid-column:2;grid-row:2}.lzc .p{grid-column:3;grid-row:2;padding-left:0}.lzc .p s{display:none}
.lzc details>div{padding-left:.7rem}}
</style>"""


def facts_html(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """An HTML table of names and values, with a title."""
    rows = "".join(f"<tr><td class=x>{text(name)}</td><td>{text(value)}</td></tr>" for name, value in facts)
    return f"{opening()}<div class=h><b>{text(title)}</b></div><div class=w><table class=f>{rows}</table></div></div>"


def table_html(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], remark: str = "", *, prose: Container[str] = ()
) -> str:
    """An HTML table with a title, column headings and an optional remark.

    Args:
        title: a sentence.
        columns: their names.
        rows: the cells, one for each column.
        remark: shown below the table; nothing if empty.
        prose: names of columns that hold sentences: they are left-aligned, wrap, and may be longer than names.
    """
    kinds = [(" class=s", _LONGEST_SENTENCE) if column in prose else ("", _LONGEST_NAME) for column in columns]
    head = "".join(f"<th{kind}>{text(column)}</th>" for (kind, _), column in zip(kinds, columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{text(cell, most)}</td>" for (kind, most), cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    note = f"<div class=n>{text(remark)}</div>" if remark else ""
    return (
        f"{opening()}<div class=h><b>{text(title, _LONGEST_SENTENCE)}</b></div><div class=w><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}</div>"
    )


def text(raw: str, longest: int = _LONGEST_NAME) -> str:
    """Untrusted text as HTML: cut to a maximum length, control characters and markup escaped."""
    return html.escape(printable(shortened(raw, longest)))


def shortened(raw: str, longest: int = _LONGEST_NAME) -> str:
    """Text of at most so many characters; an ellipsis stands for what is cut off."""
    return raw if len(raw) <= longest else f"{raw[:longest]}…"


def opening() -> str:
    """The style sheet and the opening tag of the element that it styles."""
    # The classes keep MathJax from typesetting names that contain dollar signs.
    return f'{STYLE}<div class="lzc tex2jax_ignore mathjax_ignore">'


def printable(name: str) -> str:
    """A name that is safe to print in a terminal: control characters are escaped."""
    return name if name.isprintable() else repr(name)[1:-1]


def one_line(text: str) -> str:
    """A sentence that is safe to print and to log: every character that is not printable is escaped, line ends too."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_path(path: str) -> str:
    """A path that is safe to print, of which bytes that are not UTF-8 stay, so that other programs find the file.

    Of these, the bytes that some terminals obey are escaped.
    """
    return path if path.isprintable() else "".join(c if _is_byte(c) else _escaped(c) for c in path)


def printable_lines(text: str) -> str:
    """Text of several lines, each of them as `printable_path`."""
    return text if text.isprintable() else "\n".join(map(printable_path, text.split("\n")))


def json_text(data: Any) -> str:
    """Data as JSON that is safe to print: what is not printable is escaped as JSON escapes it."""
    made = json.dumps(data, indent=1, ensure_ascii=False)
    return _NOT_ASCII.sub(lambda match: match[0] if match[0].isprintable() else _in_json(match[0]), made)


def _in_json(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]  # json takes that for printable


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _is_byte(character: str) -> bool:
    """Whether a character stands for a byte of a file name that is not UTF-8, and is no control character of 8 bits."""
    return "\udca0" <= character <= "\udcff"


def without_controls(name: str) -> str:
    """Text with its non-printable characters escaped, except tabs and line ends.

    This covers the characters that move the cursor of a terminal or change the direction of text.
    """
    if name.isprintable():
        return name
    return "".join(letter if letter in "\t\n" else _escaped(letter) for letter in name)


def human_size(count: int) -> str:
    """A byte count in about three digits with a binary unit, such as `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.0f} PiB"
