"""One entry of a spec's `data` → a DataSource: which keys fit which source is known here only."""

from __future__ import annotations

from cynthus import grammar, source_grammar
from cynthus.filereader import Fields, read_key, text_list, words
from cynthus.nodes import Place, Scalar
from cynthus.source_parts import source_parts
from cynthus.spec import DATA_FOLDER, DataSource

KEYS = ("name", "source", "mount", "sha256", "include", "exclude", "subset", "unpack")
MOST_FILE_PATTERNS = 64  # each is compared with each of up to 100,000 names


def read_entry(fields: Fields) -> DataSource:
    """Return what an entry's keys say; faults are noted where they are."""
    name = read_key(fields, "name", words(grammar.data_name), "")
    source = read_key(fields, "source", words(source_grammar.source), "")
    mount = read_key(fields, "mount", words(grammar.mount), "")
    patterns = text_list(source_grammar.file_pattern, MOST_FILE_PATTERNS, "patterns", least=1)
    kind, shelf = _kind_of(source)
    entry = DataSource(
        name=name,
        source=source,
        mount=mount if "mount" in fields or not name else f"{DATA_FOLDER}/{name}",
        sha256=read_key(fields, "sha256", words(grammar.sha256), None),
        include=read_key(fields, "include", patterns, ()),
        exclude=read_key(fields, "exclude", patterns, ()),
        subset=read_key(fields, "subset", words(source_grammar.subset), None),
        unpack=read_key(fields, "unpack", _yes_no, kind == "kaggle"),
    )
    if source:
        _check_fit(fields, entry, kind, shelf)
    return entry


def _kind_of(source: str) -> tuple[str, str]:
    parts = source_parts(source)
    return parts.kind, parts.shelf


def _yes_no(place: Place) -> bool | None:
    node = place.node
    if not (isinstance(node, Scalar) and node.plain and node.text in {"true", "false"}):
        place.fault("`true` or `false`", "Write one of them, without quotes")
        return None
    return node.text == "true"


def _check_fit(fields: Fields, entry: DataSource, kind: str, shelf: str) -> None:
    """Note keys that mean nothing beside this source: none is ignored in silence."""
    _check_digest(fields, kind)
    if kind == "https":
        for key in {"include", "exclude"} & fields.keys():
            do = f"Remove `{key}`: an https source is one file"
            fields[key].fault("absent beside an https source", do, "patterns")
    if "subset" in fields and (kind, shelf) != ("hf", "datasets"):
        do = "Remove it, or name files with `include`"
        fields["subset"].fault("only beside a dataset on Hugging Face", do, "a subset")
    elif {"subset", "include"} <= fields.keys():
        do = "Remove one of them: a subset names its files itself; `exclude` may stand beside both"
        fields["include"].fault("absent beside `subset`", do, "patterns")
    if entry.unpack:
        _check_archive(fields, entry, kind)


def _check_digest(fields: Fields, kind: str) -> None:
    if "sha256" in fields and kind != "https":
        do = "Remove it: other sources are pinned by their revision"
        fields["sha256"].fault("only beside an https source", do, "a digest")
    if "sha256" not in fields and kind == "https":
        do = "Write `sha256:` with what `sha256sum` prints for the file: nothing else pins it"
        fields["source"].fault("an https source with a `sha256`", do, "none")


def _check_archive(fields: Fields, entry: DataSource, kind: str) -> None:
    if kind == "kaggle" or "unpack" not in fields:
        return
    if kind != "https":
        do = "Remove it, and unpack in `run`"
        fields["unpack"].fault("only beside a kaggle or an https source", do, "`true`")
    elif not source_grammar.is_archive(entry.source):
        names = ", ".join(source_grammar.ARCHIVES)
        do = f"Remove it, unless the file is an archive whose name ends so ({names})"
        fields["unpack"].fault("beside an address that ends in an archive's name", do, "`true`")
