"""Explanations as files that can be checked and made again: pictures, raw arrays, manifest, report, command.

A bundle is a folder or a zip:

    manifest.json                      what made everything, the SHA-256 of every file; written last
    report.html                        one page that opens by itself, without a network
    <image>/<model>/input.png          what the network saw
    <image>/<model>/<method>.npy       raw relevance, float32, at the method's own resolution
    <image>/<model>/<method>.map.png, .overlay.png, .scale.png (and .relief.png where there are three channels)
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from xai.bundles import report
from xai.bundles.entry import ImageEntry, Look, Subject, command_for
from xai.errors import InputError
from xai.files import safe_name, sha256, storage_error, write_files
from xai.models.provenance import versions

__all__ = ["Bad", "Bundle", "Look", "Subject", "bundle_zip", "command_for", "write_explanations", "zip_folder"]

FORMAT = 1
"""Version of the manifest's layout."""


@dataclass(frozen=True)
class Bad:
    """An image that could not be explained, and the sentence why."""

    source: str
    sentence: str


@dataclass(eq=False)
class Bundle:
    """A manifest and a report in the making: `render` an image, store its files, `keep` it, at last `close`.

    command: the whole command. created: when, as text (left out of the manifest where ""). weights: the text of the
    `--weights` option by fingerprint, where it says more than `Classifier.weights` (a file's folder).
    """

    look: Look = field(default_factory=Look)
    command: str = ""
    created: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def render(self, subject: Subject) -> Rendered:
        """All files of one image, its manifest entry and its section of the report; nothing is kept yet."""
        folder = safe_name(Path(subject.name).stem, self._taken)
        image = ImageEntry(subject, folder, self.look, self.weights)
        entry = image.manifest()
        wanted = len(self.images) < report.LIMIT
        return Rendered(folder, entry, image.files, report.section(entry, image.files) if wanted else "")

    def keep(self, rendered: Rendered) -> None:
        """Count a rendered image as done: its files are where they belong."""
        self._taken.add(rendered.folder.casefold())
        self.images.append(rendered.entry)
        if rendered.section:
            self.sections.append(rendered.section)
        self.files.update({path: _listed(data) for path, data in rendered.files.items()})

    def close(self, complete: bool = True) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The manifest, and the last two files in the order in which they are to be written."""
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "made_by": "olhar explain",
            "complete": complete,
            **({"created": self.created} if self.created else {}),
            "command": self.command,
            "versions": versions(),
            "look": asdict(self.look),
            "images": self.images,
            "bad": [{"source": each.source, "reason": each.sentence} for each in self.bad],
        }
        page = report.page(manifest, self.sections).encode(errors="backslashreplace")
        manifest["files"] = dict(sorted({**self.files, "report.html": _listed(page)}.items()))
        return manifest, {"report.html": page, "manifest.json": manifest_bytes(manifest)}


@dataclass(frozen=True, eq=False)
class Rendered:
    """One image's files by their path in the bundle, with its manifest entry and report section."""

    folder: str
    entry: dict[str, Any]
    files: dict[str, bytes]
    section: str


def write_explanations(out: Path, subjects: Iterable[Subject | Bad], bundle: Bundle | None = None) -> dict[str, Any]:
    """Write a bundle into the folder `out` while `subjects` come in; gives the manifest.

    Each file is replaced atomically and the manifest comes last. Where the work is interrupted, what was finished
    stays, with a valid manifest whose `complete` is false, and the interruption goes on. Raises `InputError` where
    the folder cannot be made, `StorageError` where a file cannot be written.
    """
    bundle = bundle or Bundle()
    make_folder(out)
    try:
        for subject in subjects:
            if isinstance(subject, Bad):
                bundle.bad.append(subject)
                continue
            rendered = bundle.render(subject)
            write_files(out, rendered.files)
            bundle.keep(rendered)
    except BaseException:
        _write_last(out, bundle, complete=False)
        raise
    return _write_last(out, bundle, complete=True)


def _write_last(out: Path, bundle: Bundle, complete: bool) -> dict[str, Any]:
    manifest, files = bundle.close(complete)
    write_files(out, files)
    return manifest


def make_folder(out: Path) -> None:
    """Make the folder `out`, without an older manifest, which would describe files that are about to change.

    Raises `InputError` where the folder cannot be made, `StorageError` where the manifest cannot be taken away.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {out} cannot be made ({error.strerror}); choose another --out.") from error
    try:
        (out / "manifest.json").unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, out / "manifest.json") from error


def bundle_zip(subjects: Iterable[Subject | Bad], bundle: Bundle | None = None) -> bytes:
    """The same bundle as one zip file; the same subjects give the same bytes."""
    bundle = bundle or Bundle()
    files: dict[str, bytes] = {}
    for subject in subjects:
        if isinstance(subject, Bad):
            bundle.bad.append(subject)
            continue
        rendered = bundle.render(subject)
        files.update(rendered.files)
        bundle.keep(rendered)
    files.update(bundle.close()[1])
    buffer = io.BytesIO()
    pack(buffer, files, files.__getitem__)
    return buffer.getvalue()


def zip_folder(out: Path, manifest: Mapping[str, Any], name: str = "bundle.zip") -> Path:
    """Pack a written bundle into one zip file beside its manifest, file by file; gives its path.

    Raises `StorageError` where it cannot be written.
    """
    path = out / name
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            pack(stream, [*manifest["files"], "manifest.json"], lambda each: (out / each).read_bytes())
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def pack(stream: IO[bytes], paths: Iterable[str], read: Callable[[str], bytes]) -> None:
    """A zip with fixed times and modes, in the order of the paths, the manifest last."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(paths, key=lambda each: (each == "manifest.json", each)):
            info = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.compress_type = zipfile.ZIP_STORED if path.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(info, read(path))


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as JSON (UTF-8, two spaces, no NaN); names that are not Unicode keep their bytes as escapes."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="backslashreplace")


def _listed(data: bytes) -> dict[str, Any]:
    return {"sha256": sha256(data), "bytes": len(data)}
