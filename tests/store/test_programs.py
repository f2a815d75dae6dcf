"""What campaigns may run in a workspace that lists it."""

import pytest

from godelta.errors import InputError
from godelta.store.programs import programs_of, refuse_programs
from godelta.store.workspace import Workspace

LENNARD_JONES = {"name": "ase", "calculator": "ase.calculators.lj.LennardJones"}
SYSTEM = {"engine": "ase", "calculator": "os.system", "arguments": {"command": "touch x"}}


@pytest.fixture
def allowing(tmp_path):
    def make(text):
        (tmp_path / "godelta.yaml").write_text(text)
        return Workspace(tmp_path)

    return make


def test_what_a_campaign_names(cheap_config):
    assert programs_of(cheap_config()) == []  # a calculator of godelta itself
    prefix = {"engine": "emt", "limits": {"command_prefix": ["sh", "-c", "touch x"]}}
    assert programs_of(cheap_config(reference=prefix)) == ["sh"]
    espresso = {"engine": "espresso", "pseudopotentials": {"Cu": "Cu.UPF"}, "command": "/opt/qe/pw.x -nk 2"}
    assert programs_of(cheap_config(reference=espresso)) == ["/opt/qe/pw.x"]
    vasp = {"engine": "vasp", "version": "6.4.3", "potcars": {"Cu": "Cu"}}
    assert programs_of(cheap_config(reference=vasp)) == ["vasp_std"]
    assert programs_of(cheap_config(foundation=LENNARD_JONES, reference=SYSTEM)) == [
        "ase.calculators.lj.LennardJones",
        "os.system",
    ]
    own = {"method": "own", "program": "mine.Search"}
    assert programs_of(cheap_config(search=own)) == ["mine.Search"]


@pytest.mark.parametrize(
    ("programs", "allowed"),
    [
        ("", True),
        ("programs: []", False),
        ("programs: [ase]", True),
        ("programs: [srun, ase.calculators.lj]", True),
        ("programs: [ase.calculators.lj.LennardJones]", True),
        ("programs: [ase.calculators.l]", False),
        ("programs: [as, LennardJones]", False),
    ],
)
def test_calculators(allowing, cheap_config, programs, allowed):
    config, workspace = cheap_config(foundation=LENNARD_JONES), allowing(programs)
    if allowed:
        refuse_programs(config, workspace)
        return
    with pytest.raises(InputError, match="LennardJones, which this workspace does not allow"):
        refuse_programs(config, workspace)


def test_commands_are_compared_as_a_whole(allowing, cheap_config):
    def config(word):
        return cheap_config(reference={"engine": "emt", "limits": {"command_prefix": [word, "-n", "2"]}})

    workspace = allowing("programs: [srun, /opt/mpi]")
    refuse_programs(config("srun"), workspace)
    for word in ("/elsewhere/srun", "sh", "/opt/mpi.evil/run", "./srun"):
        with pytest.raises(InputError, match="does not allow"):
            refuse_programs(config(word), workspace)


def test_a_weight_file_of_mace_is_a_program(allowing, cheap_config):
    """It is pickled, so whoever names it runs what it holds; those of others hold numbers only."""
    for name in ("mace-mp-0", "mace-mpa-0"):
        config = cheap_config(foundation={"name": name, "weights": "/data/own.model"})
        assert programs_of(config) == ["/data/own.model"]
        assert programs_of(cheap_config(foundation={"name": name})) == []  # from where the user has put it
        refuse_programs(config, allowing("programs: [/data/own.model]"))
        with pytest.raises(InputError, match=r"own\.model, which this workspace does not allow"):
            refuse_programs(config, allowing("programs: [/data]"))
    config = cheap_config(foundation={"name": "orb-v2-mptrj", "weights": "/data/own.ckpt"})
    assert programs_of(config) == []
