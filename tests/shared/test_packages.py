"""Packages of strangers: what is taken out of them, and what is refused."""

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.shared import package_clients as clients
from pld_mmdet.shared import unpacking as module
from pld_mmdet.shared.packages import Member, packages
from pld_mmdet.shared.unpacking import unpack
from tests.shared.fake_packages import deb_of, member, package, tar_of, wheel_of

BALL, DOLL = b"a red ball", b"a doll of 3 kg"
FILES = {"usr/share/ball.txt": BALL, "usr/share/doll.txt": DOLL}
MEMBERS = [member(path, content) for path, content in FILES.items()]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_MMDET_CACHE", str(tmp_path / "cache"))


def take(pack, tmp_path, members=MEMBERS, **more):
    out = tmp_path / "out"
    return unpack(pack, members, out, tmp_path / "given", lambda _: None, **more)


class TestFromAFolder:
    @pytest.mark.parametrize("kind", ["deb", "wheel"])
    def test_only_the_named_files_leave(self, tmp_path, kind):
        files = {**FILES, "usr/share/other.txt": b"not asked for"}
        content = deb_of(tar_of(files)) if kind == "deb" else wheel_of(files)
        out = take(package(tmp_path / "given", content, kind), tmp_path)
        found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
        assert found == set(FILES)
        assert (out / "usr/share/doll.txt").read_bytes() == DOLL

    def test_bare_names(self, tmp_path):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        out = take(pack, tmp_path, flat=True)
        assert sorted(path.name for path in out.iterdir()) == ["ball.txt", "doll.txt"]

    def test_what_is_there_is_not_fetched_again(self, tmp_path):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        out = take(pack, tmp_path)
        (tmp_path / "given" / pack.file).unlink()
        take(pack, tmp_path)  # nothing is missing
        (out / "usr/share/ball.txt").write_bytes(b"a REDball!")
        with pytest.raises(UserError, match="does not hold toys"):
            take(pack, tmp_path)

    def test_no_file(self, tmp_path):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        (tmp_path / "given" / pack.file).rename(tmp_path / "given/games_1.0-1_all.deb")
        with pytest.raises(UserError, match=r"Get toys_1.0-1_all.deb .* from https"):
            take(pack, tmp_path)


class TestHostile:
    @pytest.mark.parametrize("harm", ["cut", "longer", "changed"])
    def test_another_file_is_not_opened(self, tmp_path, monkeypatch, harm):
        content = deb_of(tar_of(FILES))
        pack = package(tmp_path / "given", content)
        other = {
            "cut": content[:-7],
            "longer": content + b"0",
            "changed": content[:-1] + bytes([content[-1] ^ 1]),
        }[harm]
        (tmp_path / "given" / pack.file).write_bytes(other)
        monkeypatch.setattr(module, "_of_deb", None)
        with pytest.raises(UserError, match="it was not opened"):
            take(pack, tmp_path)

    def test_a_link_is_no_file(self, tmp_path):
        files = {**FILES, "usr/share/ball.txt": "/etc/passwd"}
        pack = package(tmp_path / "given", deb_of(tar_of(files)))
        with pytest.raises(UserError, match="plain file, 1 of the 2 files"):
            take(pack, tmp_path)
        assert not (tmp_path / "out/usr/share/ball.txt").exists()

    @pytest.mark.parametrize("path", ["../ball", "a/../../ball", "/ball", "", "a\\b"])
    def test_no_way_out(self, path):
        with pytest.raises(ValueError, match="inside a package"):
            Member(path, 1, "")

    def test_ways_out_in_the_package_lead_nowhere(self, tmp_path):
        pack = package(tmp_path / "given", deb_of(tar_of({"../evil": b"x", **FILES})))
        take(pack, tmp_path)
        assert not list(tmp_path.rglob("evil"))

    def test_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "LARGEST", 20)
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        with pytest.raises(UserError, match="unpacks to more than"):
            take(pack, tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"!<arch>\n", deb_of(b"no tar"), deb_of(tar_of(FILES)[:60])]
    )
    def test_broken_inside(self, tmp_path, content):
        with pytest.raises(UserError, match="is broken"):
            take(package(tmp_path / "given", content), tmp_path)

    def test_no_room(self, tmp_path, monkeypatch):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        usage = type("Usage", (), {"free": 23})
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(UserError, match="has room for 0 kB"):
            take(pack, tmp_path)


class TestNewer:
    def newer(self, tmp_path, files):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        (tmp_path / "given" / pack.file).unlink()
        (tmp_path / "given/toys_1.1-1_all.deb").write_bytes(deb_of(tar_of(files)))
        return pack

    def test_same_files_are_taken_and_it_is_said(self, tmp_path):
        pack, said = self.newer(tmp_path, {**FILES, "new": b"1"}), []
        out = unpack(pack, MEMBERS, tmp_path / "out", tmp_path / "given", said.append)
        assert (out / "usr/share/ball.txt").read_bytes() == BALL
        assert any("not the pinned 1.0-1" in line for line in said)

    def test_changed_files_are_refused(self, tmp_path):
        pack = self.newer(tmp_path, {**FILES, "usr/share/ball.txt": b"a RED ball"})
        with pytest.raises(UserError, match="changed 1 of the 2"):
            take(pack, tmp_path)


class TestClients:
    def test_no_apt(self, tmp_path, monkeypatch):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        monkeypatch.setattr(clients.shutil, "which", lambda _: None)
        with pytest.raises(UserError, match="there is no apt-get here") as caught:
            unpack(pack, MEMBERS, tmp_path / "out", say=lambda _: None)
        assert "add --from DIR" in caught.value.fix

    def test_a_newer_version_of_the_archive(self, tmp_path, monkeypatch):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        steps = []

        def client(command, package, place, say):
            steps.append(command[-1])
            if "=" in command[-1]:
                return 100, "E: Version '1.0-1' for 'toys' was not found"
            newer = deb_of(tar_of({**FILES, "more": b"2"}))
            (place / "toys_3%3a1.2_all.deb").write_bytes(newer)
            return 0, ""

        monkeypatch.setattr(clients, "_client", client)
        out = unpack(pack, MEMBERS, say=lambda _: None)
        assert steps == ["toys=1.0-1", "toys"]
        assert (out / "usr/share/ball.txt").read_bytes() == BALL
        assert not list(module.cache_folder().rglob("*.deb"))

    def test_no_network(self, tmp_path, monkeypatch):
        pack = package(tmp_path / "given", deb_of(tar_of(FILES)))
        words = "E: Failed to fetch http://x.test/toys.deb  Could not resolve x.test"
        monkeypatch.setattr(clients, "_client", lambda *_: (100, words))
        with pytest.raises(
            UserError, match=r"could not be fetched .*Could not resolve"
        ):
            unpack(pack, MEMBERS, tmp_path / "out", say=lambda _: None)


def test_every_pinned_package_is_whole():
    for pack in packages().values():
        assert pack.kind in ("deb", "wheel")
        assert len(pack.sha256) == 64
        assert pack.is_a(pack.file)
        assert pack.is_pinned(pack.file)
    assert packages()["openclipart-png"].is_pinned(
        "openclipart-png_1%3a0.18+dfsg-19_all.deb"
    )
