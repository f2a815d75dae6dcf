"""The Δ-model as scikit-learn sees it."""

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import estimator_checks as checks

from godelta.delta.estimator import DeltaRegressor
from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import SparseGP
from godelta.errors import GodeltaError, InputError

NOT_APPLICABLE = {"check_array_api_input"}  # arrays of other libraries than numpy are not taken


@pytest.mark.parametrize(
    "settings",
    [
        None,
        DeltaSettings(hyperparameters="leave_one_out", inducing_points=20),
        DeltaSettings(hyperparameters="fixed", species_kernels=False, inducing_selection="cur"),
        DeltaSettings(species_mean=False),
    ],
    ids=["default", "leave_one_out", "fixed", "one_mean"],
)
@pytest.mark.filterwarnings("ignore")  # checks provoke warnings of their own
def test_the_sparse_gp_passes_the_checks_of_scikit_learn(settings):
    results = checks.check_estimator(SparseGP(settings=settings), on_skip=None, on_fail=None)
    status = {result["check_name"]: result["status"] for result in results}
    assert status.pop("check_regressors_train") == "passed"
    assert len(status) > 40
    assert {name for name, value in status.items() if value != "passed"} <= NOT_APPLICABLE


@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_get_params_invariance,
        checks.check_mixin_order,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_set_params,
        checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_the_regressor_of_structures_passes_the_checks_that_need_no_matrix(check):
    check("DeltaRegressor", DeltaRegressor())


def data(cluster, toy_energy, n=24):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S4") for k in range(n)]
    return structures, np.array([toy_energy(a) for a in structures])


def test_cross_validation_works_on_lists_of_structures(cluster, toy_energy):
    structures, y = data(cluster, toy_energy)
    regressor = DeltaRegressor(settings=DeltaSettings(force_directions=0))
    errors = -cross_val_score(regressor, structures, y, cv=4, scoring="neg_root_mean_squared_error")
    assert len(errors) == 4
    assert errors.mean() < np.std(y)
    assert not hasattr(regressor, "correction_")
    choices = [DeltaSettings(), DeltaSettings(hyperparameters="fixed", length_scale=0.5)]
    search = GridSearchCV(regressor, {"settings": choices}, cv=3).fit(structures, y)
    assert search.best_params_["settings"] is choices[0]


def test_it_is_the_model_of_a_campaign(cluster, toy_energy):
    structures, y = data(cluster, toy_energy, 10)
    forces = [np.random.default_rng(k).normal(size=(7, 3)) for k in range(10)]
    settings = DeltaSettings(inducing_points=40)
    regressor = DeltaRegressor(["Ag", 16], settings).fit(structures, y, residual_forces=forces)
    ids = [f"{k:08d}" for k in range(10)]
    model = train(settings, [16, 47], structures, np.zeros(10), y, ids, residual_forces=forces)
    assert regressor.correction_.to_bytes() == model.to_bytes()
    new = [cluster(50), cluster(51, "Ag2S2")]
    energies, deviations = regressor.predict(new, return_std=True)
    np.testing.assert_allclose(energies, regressor.predict(new), rtol=1e-12)
    for k, atoms in enumerate(new):
        expected = model.predict(atoms, uncertainty=True)
        assert (energies[k], deviations[k]) == (expected.energy, expected.uncertainty)
        np.testing.assert_array_equal(regressor.predict_forces(new)[k], expected.forces)
    assert DeltaRegressor(["Ag", 16], settings).fit(structures, y).score(structures, y) > 0.5


def test_parameters_can_be_read_set_and_cloned():
    regressor = DeltaRegressor().set_params(species=("Ag", "S"), settings=DeltaSettings(preset="paper"))
    twin = clone(regressor)
    assert twin is not regressor
    assert twin.get_params() == {"species": ("Ag", "S"), "settings": DeltaSettings(preset="paper")}


def test_mistakes_are_named(cluster):
    with pytest.raises(NotFittedError):
        DeltaRegressor().predict([cluster(0)])
    with pytest.raises(InputError, match="no list of ASE's Atoms"):
        DeltaRegressor().fit(cluster(0), [1.0])
    with pytest.raises(InputError, match="no list of ASE's Atoms"):
        DeltaRegressor().fit([[1.0, 2.0]], [1.0])
    with pytest.raises(GodeltaError, match="differ in number"):
        DeltaRegressor().fit([cluster(0)], [1.0, 2.0])
    fitted = DeltaRegressor().fit([cluster(0), cluster(1)], [1.0, 1.1])
    with pytest.raises(InputError, match="covers S, Ag, but the structure contains Cu"):
        fitted.predict([Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])])
    with pytest.raises(InputError):
        DeltaRegressor(species=["Xx"]).fit([cluster(0)], [1.0])
