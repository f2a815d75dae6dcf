"""`godelta foundations`: what there is, what of it is here, and how to get the rest."""

from importlib.metadata import version

NAMES = [
    "chgnet 0.3.0", "chgnet r2scan", "mace-mp-0 small", "mace-mp-0 medium", "mace-mp-0 large", "mace-mpa-0",
    "sevennet-0", "orb-v2-mptrj",
]  # fmt: skip


def test_the_table_names_every_potential_and_how_to_get_it(godelta, tmp_path):
    answer = godelta("foundations", HOME=str(tmp_path), GODELTA_WEIGHTS=str(tmp_path), XDG_CACHE_HOME=None)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split() == [
        "foundation", "installed", "weights", "licence", "elements", "energy", "scale", "environment",
    ]  # fmt: skip
    assert [line[: len(name)] for line, name in zip(lines[1:], NAMES, strict=False)] == NAMES
    assert all("89: H-Bi, Ac-Pu" in line for line in lines[1:9])
    assert 'pip install "godelta[' in answer.out  # no environment holds all


def test_json_tells_the_hash_and_where_to_put_weights(godelta, tmp_path, require):
    require("chgnet")
    (tmp_path / "mace-mpa-0-medium.model").write_bytes(b"not looked into")
    answer = godelta(
        "foundations",
        "--format",
        "json",
        HOME=str(tmp_path),
        GODELTA_WEIGHTS=str(tmp_path),
        XDG_CACHE_HOME=None,
    )
    rows = {row["name"]: row for row in answer.json()}
    assert list(rows) == NAMES
    chgnet = rows["chgnet 0.3.0"]
    assert chgnet["usable"]
    assert chgnet["installed"] == version("chgnet")
    assert chgnet["energy_scale"] == "mp2020-corrected"
    assert len(chgnet["weights_sha256"]) == 64
    assert len(chgnet["elements"]) == 89
    assert chgnet["foundation"] == {"name": "chgnet", "model": "0.3.0", "device": "cpu"}
    assert rows["mace-mpa-0"]["weights"] == str(tmp_path / "mace-mpa-0-medium.model")
    missing = rows["mace-mp-0 large"]
    assert not missing["usable"]
    assert missing["weights"] is None
    assert {row["environment"] for row in rows.values()} == {None, "mace", "sevennet"}


def test_missing_weights_name_the_place(inside, require, tmp_path, monkeypatch):
    require("mace")
    monkeypatch.setenv("GODELTA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = inside("foundations").out
    assert f"to {tmp_path}/MACE_MPtrj_2022.9.model" in out
    assert "https://github.com/ACEsuit/mace-mp/releases/download/mace_mp_0/MACE_MPtrj_2022.9.model" in out
