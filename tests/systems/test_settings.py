import pytest
from pydantic import TypeAdapter, ValidationError

from godelta.systems.settings import ClusterSettings, FixedBelow, SurfaceSettings, SystemSettings

ADAPTER = TypeAdapter(SystemSettings)


def test_kind_decides():
    assert isinstance(ADAPTER.validate_python({"kind": "cluster", "formula": "Ag8S4"}), ClusterSettings)
    slab = ADAPTER.validate_python({"kind": "surface", "element": "Ag", "formula": "S2"})
    assert isinstance(slab, SurfaceSettings)
    template = ADAPTER.validate_python(
        {"kind": "template", "file": "a.xyz", "formula": "S2", "fixed": {"below": 3.0}}
    )
    assert template.fixed == FixedBelow(below=3.0)


@pytest.mark.parametrize(
    ("data", "place", "said"),
    [
        ({"kind": "cluster", "formula": "Agg2"}, "formula", "cannot read"),
        ({"kind": "cluster", "formula": "Xq2"}, "formula", "unknown element 'Xq'"),
        ({"kind": "cluster", "formula": "Ag", "box": 20, "confinement": 15}, "cluster", "at least 21"),
        ({"kind": "surface", "element": "ag", "formula": "S"}, "element", "did you mean Ag"),
        ({"kind": "surface", "element": "Ag", "formula": "S", "fixed_layers": 4}, "surface", "3 layers"),
        ({"kind": "surface", "element": "Ag", "formula": "S", "size": [4, 0, 3]}, "surface", "size"),
        ({"kind": "surface", "element": "Ag", "formula": "S", "vacuum": 5.0}, "vacuum", "6"),
    ],
)
def test_wrong_values_are_reported_where_they_stand(data, place, said):
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(data)
    (error,) = caught.value.errors()
    assert place in error["loc"]
    assert said in error["msg"]
