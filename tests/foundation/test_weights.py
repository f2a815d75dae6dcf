"""Weight files: found without a network, known by their hash."""

import socket

import pytest

from godelta.errors import InputError
from godelta.foundation.mace import source as mace_source
from godelta.foundation.orb import source as orb_source
from godelta.foundation.settings import CHGNetSettings, MACEMP0Settings
from godelta.foundation.weights import (
    Source,
    file_sha256,
    find_weights,
    read_weights,
    shipped_file,
    verify_shipped,
)

ORB_ADDRESS_SHA256 = "2b5e145cd030c949e983913c72986d09b2fd3ae5349617ce37ffe04a9648f26f"
FILE = "2023-12-03-mace-128-L1_epoch-199.model"


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    """A home without downloads, and a network that must not be asked."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GODELTA_WEIGHTS", "XDG_CACHE_HOME", "CACHED_PATH_CACHE_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_the_setting_goes_before_the_folder_and_the_folder_before_the_cache(tmp_path, monkeypatch):
    source = mace_source("mace-mp-0-medium")
    cache = tmp_path / "home" / ".cache" / "mace" / "20231203mace128L1_epoch199model"
    folder = tmp_path / "weights"
    cache.parent.mkdir(parents=True)
    folder.mkdir()
    cache.write_bytes(b"cache")
    assert find_weights(source) == cache
    (folder / FILE).write_bytes(b"folder")
    monkeypatch.setenv("GODELTA_WEIGHTS", str(folder))
    assert find_weights(source) == folder / FILE
    own = tmp_path / "home" / "own.model"
    own.write_bytes(b"own")
    assert find_weights(source, str(own)) == own
    assert find_weights(source, "~/own.model") == own
    (folder / "tuned.model").write_bytes(b"tuned")
    assert find_weights(source, "tuned.model") == folder / "tuned.model"


def test_orbs_own_download_is_found(tmp_path, monkeypatch):
    """As its package names it: the hash of the address, then that of what the server calls the version."""
    monkeypatch.setenv("CACHED_PATH_CACHE_ROOT", str(tmp_path))
    (tmp_path / f"{64 * '0'}.tag").write_bytes(b"another address")
    with pytest.raises(InputError):
        find_weights(orb_source())
    path = tmp_path / f"{ORB_ADDRESS_SHA256}.tag"
    for name in (f"{path.name}.json", f"{path.name}.lock"):
        (tmp_path / name).write_bytes(b"{}")
    path.write_bytes(b"weights")
    assert find_weights(orb_source()) == path


def test_missing_weights_say_where_to_get_them_and_where_to_put_them(tmp_path, monkeypatch):
    with pytest.raises(InputError) as unset:
        find_weights(mace_source("mace-mp-0-medium"))
    told = str(unset.value)
    assert "$GODELTA_WEIGHTS (not set)" in told
    assert f"https://github.com/ACEsuit/mace-mp/releases/download/mace_mp_0/{FILE}" in told
    monkeypatch.setenv("GODELTA_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as empty:
        find_weights(orb_source())
    assert f"to {tmp_path}/orb-mptraj-only-v2-20241014.ckpt" in str(empty.value)


@pytest.mark.parametrize("chosen", ["/nowhere/a.model", "~/a.model", "a.model"])
def test_a_wrong_path_is_told(chosen):
    with pytest.raises(InputError, match=r"does not exist|a relative path"):
        find_weights(mace_source("mace-mpa-0"), chosen)


def test_a_hash_is_that_of_the_file_as_it_is_now(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = file_sha256(path)
    assert read_weights(path)[1] == first
    path.write_bytes(b"another")
    assert file_sha256(path) == read_weights(path)[1] != first
    path.unlink()
    for read in (file_sha256, read_weights):
        with pytest.raises(InputError, match="cannot be read: No such file"):
            read(path)


def test_a_shipped_file_is_checked_by_its_packages_record(tmp_path):
    """Any file of an installed package will do."""
    shipped = shipped_file("ase", "ase/__init__.py")
    verify_shipped(shipped, file_sha256(shipped.path))
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(InputError, match="damaged") as refused:
        verify_shipped(shipped, file_sha256(other))
    assert "pip install --force-reinstall --no-deps ase==" in str(refused.value)
    with pytest.raises(InputError, match="lacks its weights"):
        shipped_file("ase", "ase/nothing.model")
    with pytest.raises(InputError, match="is not installed"):
        shipped_file("no-such-package", "a")


def test_weights_that_come_with_a_package_are_not_to_be_downloaded():
    with pytest.raises(InputError) as refused:
        find_weights(Source("chgnet", "a", url=None), "/nowhere/a")
    assert "leave `weights` out" in str(refused.value)


def test_settings_without_a_file_are_hashed_as_before():
    assert CHGNetSettings().model_dump() == {"name": "chgnet", "model": "0.3.0", "device": "cpu"}
    assert MACEMP0Settings(weights="a").model_dump()["weights"] == "a"
