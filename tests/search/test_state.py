import numpy as np
import pytest

from godelta.search.state import generator_state, pack_state, restored_generator, unpack_state


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.PCG64DXSM, np.random.Philox])
def test_a_generator_continues_where_it_was(bits):
    rng = np.random.Generator(bits(3))
    rng.normal(size=7)
    rng.integers(10, dtype=np.int32)  # leaves half of a 64-bit word in the buffer
    again = restored_generator(generator_state(rng))
    np.testing.assert_array_equal(
        again.integers(9, size=5, dtype=np.int32), rng.integers(9, size=5, dtype=np.int32)
    )
    np.testing.assert_array_equal(again.normal(size=20), rng.normal(size=20))


def test_an_unknown_generator_is_refused():
    with pytest.raises(ValueError, match="MT19937"):
        generator_state(np.random.Generator(np.random.MT19937(0)))


def test_bytes_of_another_method_are_refused():
    blob = pack_state("rss", {"a": 1}, {"x": np.arange(3.0)})
    values, arrays = unpack_state("rss", blob)
    assert values == {"a": 1}
    np.testing.assert_array_equal(arrays["x"], np.arange(3.0))
    with pytest.raises(ValueError, match="no state of the search method rex"):
        unpack_state("rex", blob)


def test_nothing_is_pickled():
    with pytest.raises(TypeError):
        pack_state("rss", {}, {"x": np.array([object()])})
