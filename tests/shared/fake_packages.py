"""Packages of a few bytes: a .deb is an ``ar`` archive with a tar inside."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from pld_mmdet.shared.packages import Member, Package


def member(path: str, content: bytes) -> Member:
    return Member(path, len(content), hashlib.sha256(content).hexdigest())


def tar_of(files: dict[str, bytes | str]) -> bytes:
    """Bytes are a file, a text is a link to that place."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb_of(tar: bytes) -> bytes:
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar}
    out = b"!<arch>\n"
    for name, content in parts.items():
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        )
        out += content + b"\n" * (len(content) % 2)
    return out


def wheel_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def package(folder: Path, content: bytes, kind: str = "deb", **more) -> Package:
    """Write the file, and pin it."""
    file = {"deb": "toys_1.0-1_all.deb", "wheel": "toys-1.0-py3-none-any.whl"}[kind]
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(content)
    fields = dict(
        name="toys", kind=kind, version="1.0-1", file=file, bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(), licence="MIT", url="https://x.test/",
    )  # fmt: skip
    return Package(**fields | more)
