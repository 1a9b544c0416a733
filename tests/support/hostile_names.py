"""Parameter names with a special meaning to file systems, templates, markup or zarr."""

HOSTILE = [
    "", ".", "..", "...", "/", "a/b", "../../etc", ".zarray", ".zattrs", ".zmetadata", "zarr.json", "a//b", "a\0b",
    "{{u}}", "{% x %}", "%2F", "a%b", "~", "~41", "~~", "\\", "a:b", "*?[]", "a b", "\n", "\ud800", "'\"", "é/层",
    "a..b",
]  # fmt: skip
